//! What ten thousand routers cost: time to load, and CPU time per request.
//!
//!     cargo bench -p scenarios --bench routers
//!
//! Starts the built proxy twice, with 10 and with 10,000 `Host` routers in one
//! file, sends both the same requests for hosts all over the table, in turns,
//! and prints what a request cost by the kernel's accounting. It asserts
//! nothing: figures are for reading. `TIDEGATE_BIN_DIR` names the binaries.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use scenarios::client::Connection;
use scenarios::process::{Proxy, binary};
use scenarios::{eventually_blocking, ports};

const FEW: usize = 10;
const MANY: usize = 10_000;
const ROUNDS: usize = 7;
const REQUESTS: usize = 5_000;

/// A proxy with so many routers.
struct Subject {
    routers: usize,
    proxy: Proxy,
    address: SocketAddr,
    loaded: Duration,
}

impl Subject {
    fn start(routers: usize, server: SocketAddr) -> anyhow::Result<Self> {
        let (command, address) = Proxy::command()?.entry_point("web")?;
        let command = command
            .file("routers.yml", &configuration(routers, server))?
            .arg("--providers.file.filename=routers.yml")
            .arg("--workers=1");
        let start = Instant::now();
        let proxy = command.start()?;
        let runtime = runtime()?;
        let last = host(routers - 1);
        eventually_blocking(Duration::from_secs(60), || {
            let answer = runtime.block_on(scenarios::client::get(address, &last, "/"));
            answer.is_ok_and(|answer| answer.status() == 200)
        })?;
        Ok(Self {
            routers,
            proxy,
            address,
            loaded: start.elapsed(),
        })
    }

    /// CPU time of one request, in microseconds.
    fn measure(&self) -> anyhow::Result<f64> {
        let before = self.proxy.processor_time()?;
        runtime()?.block_on(async {
            let mut connection = Connection::open(self.address).await?;
            for request in 0..REQUESTS {
                // A prime step visits hosts all over the table.
                let host = host(request * 7919 % self.routers);
                let answer = connection.get(&host, "/").await?;
                anyhow::ensure!(answer.status() == 200, "status {}", answer.status());
            }
            Ok(())
        })?;
        let spent = self.proxy.processor_time()?.saturating_sub(before);
        Ok(spent.as_secs_f64() * 1e6 / f64::from(u32::try_from(REQUESTS)?))
    }
}

fn host(index: usize) -> String {
    format!("host{index}.example.com")
}

fn configuration(routers: usize, server: SocketAddr) -> String {
    let mut text = String::from("http:\n  routers:\n");
    for index in 0..routers {
        let host = host(index);
        let _ = writeln!(
            text,
            "    r{index}: {{rule: 'Host(`{host}`)', service: s{}}}",
            index % 100
        );
    }
    text.push_str("  services:\n");
    for index in 0..routers.min(100) {
        let _ = writeln!(
            text,
            "    s{index}: {{loadBalancer: {{servers: [{{url: 'http://{server}'}}]}}}}"
        );
    }
    text
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn main() -> anyhow::Result<()> {
    let address = ports::free_address()?;
    let _server = Proxy::program(binary("demo")?)?
        .env("DEMO_LISTEN", &address.to_string())
        .ready_at(address)
        .start()?;
    let few = Subject::start(FEW, address)?;
    let many = Subject::start(MANY, address)?;
    let mut costs = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        costs.0.push(few.measure()?);
        costs.1.push(many.measure()?);
    }
    let (few_cost, many_cost) = (median(costs.0), median(costs.1));
    for (subject, cost) in [(&few, few_cost), (&many, many_cost)] {
        println!(
            "{:>6} routers: served the last one {:>6.0} ms after the start, {cost:>6.1} us of CPU per request",
            subject.routers,
            subject.loaded.as_secs_f64() * 1e3,
        );
    }
    println!("ratio {:.2}", many_cost / few_cost);
    Ok(())
}
