//! The registries that a program talks to.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use crate::context::Context;
use crate::error::Result;
use crate::net::Runtime;
use crate::oci::Reference;

use super::{Client, RegistryOptions, Repository};

/// The registries that a program talks to, with the connections, the tokens and
/// the one thread of all of them.
///
/// For code that is not async. Async code talks to a [`Client`].
pub struct Registries {
    cx: Context,
    options: RegistryOptions,
    runtime: Runtime,
    clients: Mutex<BTreeMap<(String, Use), Client>>,
}

/// What a client is for. An upload holds a permit while it waits for its bytes;
/// bytes that come from the same registry need permits of their own, or all
/// uploads would wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// All requests but those of images that are read.
    General,
    /// An image that is read, perhaps to be copied.
    Source,
}

impl Registries {
    /// Starts the thread; connects to nothing yet. Retries and warnings are
    /// told to the observer of `cx`, whose cancel flag ends every request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connection`](crate::ErrorKind::Connection) if there can be
    /// no thread.
    pub fn new(cx: &Context, options: RegistryOptions) -> Result<Self> {
        Ok(Self {
            cx: cx.clone(),
            options,
            runtime: Runtime::start()?,
            clients: Mutex::default(),
        })
    }

    /// Returns the repository that a reference names.
    ///
    /// # Errors
    ///
    /// Those of the files that the options name, such as certificates.
    pub fn repository(&self, reference: &Reference) -> Result<Repository> {
        self.repository_for(Use::General, reference)
    }

    /// Returns the repository of an image that is read.
    pub(super) fn source(&self, reference: &Reference) -> Result<Repository> {
        self.repository_for(Use::Source, reference)
    }

    fn repository_for(&self, what: Use, reference: &Reference) -> Result<Repository> {
        let host = reference.registry();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match clients.entry((host.to_owned(), what)) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(place) => {
                let client = Client::new(&self.cx, host, &self.options)?;
                place.insert(client).clone()
            }
        };
        Ok(client.repository(reference.repository()))
    }

    /// Runs a future on the thread and waits for it, until the flag of `cx` is
    /// set.
    pub(crate) fn block_on<T: Send + 'static>(
        &self,
        cx: &Context,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.runtime.block_on(cx, future)
    }

    /// Returns the thread.
    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Returns what the requests belong to.
    pub(super) fn context(&self) -> &Context {
        &self.cx
    }
}

impl std::fmt::Debug for Registries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registries")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
