//! Where the map has each layer and store path.
//!
//! A map is a squarified treemap (Bruls, Huizing, van Wijk 2000) of layers, and
//! in each of its store paths. Areas are sizes: of layers in the map, of store
//! paths in their layer. The squares are made for a map of a certain shape, so
//! there are places for a wide and for a narrow window, and others for a layer
//! that fills the map. They are a stylesheet, so that the page needs no script
//! and no `style` attribute, which its policy would not let pass.

use std::cmp::Reverse;
use std::fmt::Write as _;

use streemap::Rect;

use super::Layer;

/// A place in parts of what it lies in.
type Place = Rect<f64>;

/// The map's shape, in the pixels of CSS.
#[derive(Clone, Copy)]
struct Shape {
    width: f64,
    height: f64,
}

/// In a window as wide as the page ever is.
const WIDE: Shape = Shape {
    width: 1240.0,
    height: 640.0,
};
/// In the window of a telephone.
const NARROW: Shape = Shape {
    width: 370.0,
    height: 560.0,
};
/// The height of the line above a layer's store paths, and the smallest layer
/// that has it; `page.css` has the same numbers.
const HEAD: f64 = 18.0;
const SMALLEST_WITH_HEAD: Shape = Shape {
    width: 30.0,
    height: 34.0,
};

/// Returns the stylesheet with the places of layers `#l0`, `#l1`, … and of store
/// paths, which `#p` and the number in `numbers` name, also for a layer with the
/// class `open`.
pub(super) fn stylesheet(layers: &[Layer], numbers: &[Vec<usize>]) -> String {
    let mut css = String::new();
    rules(layers, numbers, WIDE, &mut css);
    css.push_str("@media(max-width:40rem){");
    rules(layers, numbers, NARROW, &mut css);
    css.push('}');
    css
}

fn rules(layers: &[Layer], numbers: &[Vec<usize>], map: Shape, css: &mut String) {
    let places = squarify(&shares(layers.iter().map(|layer| layer.size)), map);
    let opened = inside(map);
    for ((at, layer), place) in layers.iter().enumerate().zip(places) {
        let _ = write!(css, "#l{at}{{{}}}", inset(place));
        let sizes = shares(layer.paths.iter().map(|path| path.size));
        let shape = inside(Shape {
            width: place.w * map.width,
            height: place.h * map.height,
        });
        let closed = squarify(&sizes, shape);
        for ((number, closed), open) in numbers[at].iter().zip(closed).zip(squarify(&sizes, opened))
        {
            let _ = write!(
                css,
                "#p{number}{{{}}}.open #p{number}{{{}}}",
                inset(closed),
                inset(open)
            );
        }
    }
}

/// Returns the shape of what is below a layer's head, if it has one.
fn inside(layer: Shape) -> Shape {
    let has_head =
        layer.width >= SMALLEST_WITH_HEAD.width && layer.height >= SMALLEST_WITH_HEAD.height;
    Shape {
        height: layer.height - if has_head { HEAD } else { 0.0 },
        ..layer
    }
}

/// Returns what areas are made of: the sizes, and where not all are known, the
/// same for each.
fn shares(sizes: impl ExactSizeIterator<Item = Option<u64>>) -> Vec<u64> {
    let count = sizes.len();
    let sizes: Option<Vec<u64>> = sizes.collect();
    sizes.unwrap_or_else(|| vec![1; count])
}

/// Divides a rectangle into one for each size, in the order of `sizes`.
///
/// Areas are proportional to sizes, with all sizes 0 they are equal. The
/// largest begins at the top left.
fn squarify(sizes: &[u64], shape: Shape) -> Vec<Place> {
    let all_zero = sizes.iter().all(|size| *size == 0);
    let nowhere = Place {
        x: 0.0,
        y: 0.0,
        w: 0.0,
        h: 0.0,
    };
    let mut places = vec![nowhere; sizes.len()];
    // What has no size has no place, and would be in the way of the division.
    let mut items: Vec<(usize, f64)> = sizes
        .iter()
        .enumerate()
        .filter(|(_, size)| all_zero || **size > 0)
        .map(|(at, size)| (at, if all_zero { 1.0 } else { *size as f64 }))
        .collect();
    items.sort_by_key(|(at, _)| (Reverse(sizes[*at]), *at));
    let whole = Rect::from_size(shape.width, shape.height);
    let part = |place: Place| Place {
        x: (place.x / shape.width).clamp(0.0, 1.0),
        y: (place.y / shape.height).clamp(0.0, 1.0),
        w: (place.w / shape.width).clamp(0.0, 1.0),
        h: (place.h / shape.height).clamp(0.0, 1.0),
    };
    streemap::squarify(
        whole,
        &mut items,
        |(_, size)| *size,
        |(at, _), place| places[*at] = part(place),
    );
    places
}

/// Returns a place as the distances from the four sides. Neighbours have the same
/// numbers where they meet, so that there is neither a gap nor an overlap.
fn inset(place: Place) -> String {
    let [top, right, bottom, left] = [
        place.y,
        1.0 - place.x - place.w,
        1.0 - place.y - place.h,
        place.x,
    ]
    .map(percent);
    format!("inset:{top} {right} {bottom} {left}")
}

fn percent(part: f64) -> String {
    let rounded = format!("{:.2}", (part * 100.0).clamp(0.0, 100.0));
    let short = rounded.trim_end_matches('0').trim_end_matches('.');
    if short == "0" {
        short.to_owned()
    } else {
        format!("{short}%")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn meet(a: &Place, b: &Place) -> bool {
        let wide = (a.x + a.w).min(b.x + b.w) - a.x.max(b.x);
        let high = (a.y + a.h).min(b.y + b.h) - a.y.max(b.y);
        wide > 1e-9 && high > 1e-9
    }

    /// Sizes as different as those in a store.
    fn sizes() -> impl Strategy<Value = Vec<u64>> {
        let size = (0u32..40, any::<u64>()).prop_map(|(bits, any)| any % (1 << bits));
        prop::collection::vec(size, 1..120)
    }

    proptest! {
        #[test]
        fn areas_are_sizes_and_fill_the_map_without_overlap(sizes in sizes(), wide in any::<bool>()) {
            let places = squarify(&sizes, if wide { WIDE } else { NARROW });
            let total: u64 = sizes.iter().sum();
            for (size, place) in sizes.iter().zip(&places) {
                let want = if total == 0 { 1.0 / sizes.len() as f64 } else { *size as f64 / total as f64 };
                prop_assert!((place.w * place.h - want).abs() < 1e-9, "{place:?} for {size}");
                prop_assert!(place.x + place.w < 1.0 + 1e-9 && place.y + place.h < 1.0 + 1e-9);
            }
            for (at, place) in places.iter().enumerate() {
                prop_assert!(!places[..at].iter().any(|other| meet(place, other)));
            }
            prop_assert!((places.iter().map(|p| p.w * p.h).sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert_eq!(places, squarify(&sizes, if wide { WIDE } else { NARROW }));
        }
    }

    #[test]
    fn the_places_are_those_of_the_paper() {
        let places = squarify(
            &[6, 6, 4, 3, 2, 2, 1],
            Shape {
                width: 6.0,
                height: 4.0,
            },
        );
        assert_eq!(inset(places[0]), "inset:0 50% 50% 0");
        assert_eq!(inset(places[1]), "inset:50% 50% 0 0");
        assert_eq!(inset(places[2]), "inset:0 21.43% 41.67% 50%");
    }

    #[test]
    fn percentages_are_short() {
        assert_eq!(percent(0.5), "50%");
        assert_eq!(percent(1.0 / 3.0), "33.33%");
        assert_eq!(percent(-1e-17), "0");
        assert_eq!(percent(1.0), "100%");
    }
}
