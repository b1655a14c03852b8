//! The layers of several images, numbered on from each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::context::{Context, Event, Observer};

/// Makes a context for each image of an index, so that the observer hears of
/// the layers of all as of those of one.
pub(super) struct Numbering {
    observer: Arc<dyn Observer>,
    layers: Arc<AtomicUsize>,
}

/// Passes on what happens to one image.
struct Numbered {
    observer: Arc<dyn Observer>,
    /// The number of its first layer.
    first: usize,
    /// The layers of all images so far.
    layers: Arc<AtomicUsize>,
}

impl Numbering {
    pub(super) fn new(cx: &Context) -> Self {
        Self {
            observer: Arc::clone(&cx.observer),
            layers: Arc::default(),
        }
    }

    /// Returns the context for the next image.
    pub(super) fn next(&self, cx: &Context) -> Context {
        let mut cx = cx.clone();
        cx.observer = Arc::new(Numbered {
            observer: Arc::clone(&self.observer),
            first: self.layers.load(Ordering::Relaxed),
            layers: Arc::clone(&self.layers),
        });
        cx
    }
}

impl Observer for Numbered {
    fn event(&self, event: &Event<'_>) {
        let mut event = event.clone();
        match &mut event {
            Event::Planned { layers, .. } => {
                self.layers.fetch_add(layers.len(), Ordering::Relaxed);
            }
            Event::LayerStarted { layer }
            | Event::LayerProgress { layer, .. }
            | Event::LayerPacked { layer, .. }
            | Event::LayerReused { layer, .. }
            | Event::LayerSent { layer, .. }
            | Event::LayerResent { layer }
            | Event::LayerWritten { layer }
            | Event::LayerScanned { layer, .. } => *layer += self.first,
            Event::ClosureProgress { .. }
            | Event::ClosureRead { .. }
            | Event::Downloaded { .. }
            | Event::Retry { .. }
            | Event::Committed { .. }
            | Event::Warning { .. } => {}
        }
        self.observer.event(&event);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Observer for Heard {
        fn event(&self, event: &Event<'_>) {
            let heard = match event {
                Event::Planned { layers, .. } => format!("planned {}", layers.len()),
                Event::LayerSent { layer, bytes } => format!("sent {layer} {bytes}"),
                Event::LayerWritten { layer } => format!("written {layer}"),
                other => format!("{other:?}"),
            };
            self.0.lock().unwrap().push(heard);
        }
    }

    #[test]
    fn layers_are_numbered_on() {
        let heard = Arc::new(Heard::default());
        let cx = Context {
            observer: Arc::<Heard>::clone(&heard) as Arc<dyn Observer>,
            ..Context::default()
        };
        let numbering = Numbering::new(&cx);
        for sizes in [&[1_u64, 2][..], &[3]] {
            let cx = numbering.next(&cx);
            let event = |event: Event<'_>| cx.observer.event(&event);
            event(Event::Planned {
                layers: sizes,
                labels: &[],
            });
            event(Event::LayerSent { layer: 0, bytes: 7 });
            event(Event::LayerWritten { layer: 0 });
        }
        let heard = heard.0.lock().unwrap();
        assert_eq!(
            *heard,
            [
                "planned 2",
                "sent 0 7",
                "written 0",
                "planned 1",
                "sent 2 7",
                "written 2"
            ]
        );
    }
}
