//! Every workload for a moment against the built proxy: answers must be right.
//! Figures are not looked at.

use std::time::Duration;

use bench::accounting::processors;
use bench::load::Engine;
use bench::options::Options;
use bench::run;
use bench::subject::{Kind, Setup};

#[test]
fn every_workload_runs_without_errors() {
    let options = Options {
        subjects: vec![Kind::Tidegate],
        rounds: 1,
        window: Duration::from_millis(50),
        warm_up: Duration::from_millis(10),
        settle: Duration::from_millis(100),
        most_connections: 100,
        ..Options::default()
    };
    let mut engine = Engine::new().unwrap();
    let processors = processors().unwrap();
    let setup = Setup::new(engine.http1, engine.calls, processors).unwrap();
    let results = run::all(&options, &mut engine, &setup, |_, _, _, _| ());
    assert_eq!(results.len(), options.workloads.len());
    for ((workload, _), cell) in results {
        let figures = &cell[0];
        assert_eq!(figures.errors, 0, "{workload}: {:?}", figures.first_error);
        assert!(
            figures.requests > 0 && figures.processor > 0.0,
            "{workload}"
        );
    }
}
