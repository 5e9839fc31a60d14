//! The experiments in small against the built proxy: they run to their end and
//! nothing that was measured is nonsense. Rates are not looked at.

use queue::options::{Experiment, Options};
use queue::subject::Product;
use queue::{races, uwsgi, waits};

fn small(experiment: Experiment, requests: usize, only: &[&str]) -> Options {
    Options {
        requests: Some(requests),
        subjects: vec![Product::Tidegate],
        only: only.iter().map(|name| (*name).to_owned()).collect(),
        ..Options::all_of(experiment)
    }
}

#[test]
fn races_are_run() {
    let verdicts = races::run(&small(Experiment::Races, 3200, &["5ms", "50ms"])).unwrap();
    assert_eq!(verdicts.len(), 4);
    for verdict in verdicts {
        assert!(verdict.is_met, "{verdict}");
    }
}

#[test]
fn nobody_is_forgotten_in_the_queue() {
    let verdicts = waits::run(&small(Experiment::Waits, 200, &[])).unwrap();
    assert_eq!(verdicts.len(), 2);
    for verdict in verdicts {
        assert!(verdict.is_met, "{verdict}");
    }
}

#[test]
#[ignore = "needs uWSGI"]
fn uwsgi_is_served_without_errors() {
    let mut options = small(Experiment::Uwsgi, 300, &["kept24"]);
    options.limited = true;
    let verdicts = uwsgi::run(&options).unwrap();
    assert_eq!(verdicts.len(), 8);
    for verdict in verdicts {
        // So few requests say nothing about rates and rare long answers.
        assert!(
            verdict.is_met || !verdict.text.contains("error"),
            "{verdict}"
        );
    }
}
