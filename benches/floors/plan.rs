//! Deciding layers, by each strategy of the table.

use std::num::NonZeroUsize;

use criterion::{BenchmarkId, Criterion, Throughput};
use nix2oci::LayerPlan;
use nix2oci::plan::{PlanOptions, STRATEGIES, strategy};
use nix2oci_benches::{path_infos, whole_closure};

const BUDGET: NonZeroUsize = NonZeroUsize::new(100).expect("100 is not 0");

/// The benches of this floor.
pub(crate) fn plan(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan");
    group.sample_size(10);
    for paths in [1_000, 5_000, 20_000] {
        let closure = whole_closure(path_infos(paths));
        group.throughput(Throughput::Elements(paths as u64));
        for entry in STRATEGIES {
            let strategy = strategy(entry.name).expect("it is in the table");
            group.bench_function(BenchmarkId::new(entry.name, paths), |b| {
                b.iter(|| {
                    LayerPlan::new(&closure, strategy.as_ref(), &PlanOptions::new(BUDGET))
                        .expect("the closure fits the budget")
                });
            });
        }
    }
    group.finish();
}
