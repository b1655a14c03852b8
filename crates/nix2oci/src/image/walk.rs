//! From an index down to manifests.
//!
//! Whoever made the documents can make a small one that names itself in effect
//! without end: an index of 300 times the same index, a few deep. So every
//! entry that is met counts, whatever it is of, and so do the bytes of the
//! indexes each time they are read.

use crate::context::Context;
use crate::error::Result;
use crate::oci::{Descriptor, ImageIndex};

use super::select::is_index;

/// Indexes that may be in each other.
const MAX_DEPTH: usize = 4;

/// Entries of indexes of one layout or archive that are looked at.
pub(super) const MAX_ENTRIES: usize = 4096;

/// Bytes that all indexes under the outermost one may have.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// What is done with what a walk meets.
pub(super) trait Visitor {
    /// Takes what is no index.
    fn manifest(&mut self, descriptor: &Descriptor, parent: Option<Parent<'_>>) -> Result<()>;

    /// Reads an index, or returns `None` if there is nothing to see in it.
    fn index(&mut self, descriptor: &Descriptor) -> Result<Option<ImageIndex>>;

    /// Is told of an entry that the walk does not go on with.
    fn beyond(&mut self, descriptor: &Descriptor, limit: Limit) -> Result<()>;
}

/// The index inside of the outermost one that an entry is of.
#[derive(Clone, Copy)]
pub(super) struct Parent<'a> {
    pub(super) descriptor: &'a Descriptor,
    pub(super) index: &'a ImageIndex,
}

/// A limit that was met, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Depth(usize),
    Entries(usize),
    Bytes(u64),
}

/// A walk over all there is, with one account of what it costs.
pub(super) struct Walk<'a> {
    cx: &'a Context,
    entries: usize,
    bytes: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(cx: &'a Context) -> Self {
        Self {
            cx,
            entries: 0,
            bytes: 0,
        }
    }

    /// Walks over an entry of the outermost index and all under it, in their
    /// order.
    pub(super) fn entry(
        &mut self,
        descriptor: &Descriptor,
        visitor: &mut dyn Visitor,
    ) -> Result<()> {
        self.visit(descriptor, None, 0, visitor)
    }

    fn visit(
        &mut self,
        descriptor: &Descriptor,
        parent: Option<Parent<'_>>,
        depth: usize,
        visitor: &mut dyn Visitor,
    ) -> Result<()> {
        self.cx.cancel.check()?;
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return visitor.beyond(descriptor, Limit::Entries(MAX_ENTRIES));
        }
        if !is_index(descriptor.media_type()) {
            return visitor.manifest(descriptor, parent);
        }
        if depth >= MAX_DEPTH {
            return visitor.beyond(descriptor, Limit::Depth(MAX_DEPTH));
        }
        self.bytes = self.bytes.saturating_add(descriptor.size());
        if self.bytes > MAX_INDEX_BYTES {
            return visitor.beyond(descriptor, Limit::Bytes(MAX_INDEX_BYTES));
        }
        let Some(index) = visitor.index(descriptor)? else {
            return Ok(());
        };
        for inner in index.manifests() {
            let parent = Parent {
                descriptor,
                index: &index,
            };
            self.visit(inner, Some(parent), depth + 1, visitor)?;
            if self.entries > MAX_ENTRIES {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::oci::{MediaType, descriptor};

    /// An index that is in itself `width` times, with or without an end.
    struct Endless {
        width: usize,
        size: u64,
        read: usize,
        met: Vec<Limit>,
    }

    fn inner(size: u64) -> Descriptor {
        descriptor(MediaType::ImageIndex, Digest::of(b"index"), size)
    }

    impl Visitor for Endless {
        fn manifest(&mut self, _: &Descriptor, _: Option<Parent<'_>>) -> Result<()> {
            unreachable!("there are only indexes");
        }

        fn index(&mut self, _: &Descriptor) -> Result<Option<ImageIndex>> {
            self.read += 1;
            let mut index = ImageIndex::default();
            index.set_manifests(vec![inner(self.size); self.width]);
            Ok(Some(index))
        }

        fn beyond(&mut self, _: &Descriptor, limit: Limit) -> Result<()> {
            self.met.push(limit);
            Ok(())
        }
    }

    fn walk(cx: &Context, width: usize, size: u64) -> Result<Endless> {
        let mut endless = Endless {
            width,
            size,
            read: 0,
            met: Vec::new(),
        };
        Walk::new(cx).entry(&inner(size), &mut endless)?;
        Ok(endless)
    }

    #[test]
    fn an_endless_index_ends() {
        let cx = Context::default();
        let deep = walk(&cx, 1, 100).unwrap();
        assert_eq!((deep.read, deep.met), (4, vec![Limit::Depth(4)]));
        let wide = walk(&cx, 300, 100).unwrap();
        assert!(wide.read < 4096, "{}", wide.read);
        assert_eq!(wide.met.last(), Some(&Limit::Entries(4096)));
        let big = walk(&cx, 10, 4 << 20).unwrap();
        assert_eq!(big.read, 16);
        assert!(big.met.contains(&Limit::Bytes(64 << 20)));
    }

    #[test]
    fn a_walk_can_be_cancelled() {
        let cx = Context::default();
        cx.cancel.cancel();
        assert!(walk(&cx, 300, 100).is_err());
    }
}
