// SPDX-License-Identifier: Apache-2.0
//! Binary `evenkeel-discovery`: command line, log, signals. Everything else is in the library.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use clap::Parser;
use evenkeel_discovery::app::App;
use evenkeel_discovery::certificates::CertificatesArgs;
use evenkeel_discovery::cli::{self, Cli, Command};
use evenkeel_discovery::config::{Args, Config, LogFormat};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let Cli { serve, command } = Cli::parse();
    let done = match command {
        None => start(&serve),
        Some(Command::Certificates(certificates)) => self::certificates(&serve, &certificates),
        Some(Command::Ask(question)) => return cli::main(question),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evenkeel-discovery: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> anyhow::Result<()> {
    let config = args.validate()?;
    log(args)?;
    evenkeel_heap::keep_large_blocks_apart();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(run(&config))
}

fn certificates(args: &Args, certificates: &CertificatesArgs) -> anyhow::Result<()> {
    log(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let report = runtime.block_on(async {
        let client = kube::Client::try_default().await.context("cannot tell how to reach the API server")?;
        anyhow::Ok(evenkeel_discovery::certificates::run(client, certificates, SystemTime::now()).await?)
    })?;
    print!("{report}");
    Ok(())
}

fn log(args: &Args) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&args.log).with_context(|| format!("--log {:?}", args.log))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

async fn run(config: &Config) -> anyhow::Result<()> {
    // Before anything starts, so that no signal is lost.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut app = App::start(config).await?;
    let failed = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = app.failed() => true,
    };
    tracing::info!("shutting down; clients are sent to other replicas first");
    tokio::select! {
        () = app.shutdown() => {}
        // Whoever asks twice does not want to wait until clients have moved.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    anyhow::ensure!(!failed, "the ADS server has ended by itself; the log says why");
    Ok(())
}
