use super::*;

fn args(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn flags(line: &str) -> Result<Loaded, String> {
    load(args(line), [], &[]).map_err(|error| error.to_string())
}

#[test]
fn first() {
    println!(
        "{:?}",
        flags(
            "--api --entrypoints.web.address=:80 --certificatesresolvers.le.acme.httpchallenge.entrypoint=web --certificatesresolvers.le.acme.emial=x"
        )
    );
}
