use std::path::PathBuf;

use super::super::scripted::{among, plain_record};
use super::*;

/// A program with this text, and a place beside it to write to; both vanish with it.
struct Script(PathBuf);

impl Script {
    fn new(text: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("tidegate-exec-{}", fastrand::u64(..)));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("program");
        // Written by another process: one that is forked while we hold the file open for
        // writing would keep it from being run.
        let text = format!("#!/bin/sh\ncd \"$(dirname \"$0\")\"\n{text}\n");
        let written = std::process::Command::new("sh")
            .args(["-c", "printf %s \"$1\" > \"$0\"; chmod 700 \"$0\""])
            .args([path.to_str().unwrap(), &text])
            .status();
        assert!(written.unwrap().success());
        Self(directory)
    }

    fn provider(&self, more: &[(&str, &str)]) -> Exec {
        let path = self.0.join("program");
        let mut set = vec![("EXEC_PATH", path.to_str().unwrap())];
        set.extend_from_slice(more);
        Exec::new(Variables::new(&among(&set))).unwrap()
    }

    fn wrote(&self) -> String {
        std::fs::read_to_string(self.0.join("wrote")).unwrap_or_default()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn arguments_are_those_of_lego() {
    let record = plain_record();
    let value = record.proof.value();
    for (more, expected) in [
        (
            vec![],
            format!(
                "present _acme-challenge.sub.example.test. {value}\n\
                 cleanup _acme-challenge.sub.example.test. {value}\n"
            ),
        ),
        (
            vec![("EXEC_MODE", "RAW")],
            "present -- sub.example.test token token.thumbprint\n\
             cleanup -- sub.example.test token token.thumbprint\n"
                .to_owned(),
        ),
    ] {
        let script = Script::new("echo \"$@\" >> wrote");
        let provider = script.provider(&more);
        provider.add(&record).await.unwrap();
        provider.remove(&record).await.unwrap();
        assert_eq!(script.wrote(), expected);
    }
}

#[tokio::test]
async fn a_failure_repeats_the_last_words() {
    let script = Script::new("echo working; echo no such zone >&2; exit 3");
    let error = script.provider(&[]).add(&plain_record()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("exit status: 3: no such zone"), "{error}");

    let nobody = Exec::new(Variables::new(&among(&[("EXEC_PATH", "/nowhere/at/all")]))).unwrap();
    let error = nobody.add(&plain_record()).await.unwrap_err().to_string();
    assert!(error.contains("can't be run"), "{error}");
    let none = Exec::new(Variables::new(&among(&[])))
        .unwrap_err()
        .to_string();
    assert!(none.contains("EXEC_PATH"), "{none}");
}

#[tokio::test]
async fn one_runs_at_a_time() {
    let script = Script::new(
        "mkdir lock || { echo together >> wrote; exit 1; }\nfor i in 1 2 3 4 5; do :; done\n\
         echo once >> wrote\nrmdir lock",
    );
    let provider = script.provider(&[]);
    let record = plain_record();
    let calls = (0..8).map(|_| provider.add(&record));
    for outcome in futures_util::future::join_all(calls).await {
        outcome.unwrap();
    }
    assert_eq!(script.wrote(), "once\n".repeat(8));
}

#[tokio::test]
async fn much_output_blocks_nobody_and_is_cut() {
    let script = Script::new(
        "i=0; while [ $i -lt 3000 ]; do echo \"line $i of many more to come\"; i=$((i+1)); done; exit 1",
    );
    let error = script.provider(&[]).add(&plain_record()).await;
    assert!(error.unwrap_err().to_string().len() < 300);
}
