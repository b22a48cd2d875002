//! `landfall-sample api|proxy FILE|store|repair HOW|migrate|misuse|probe URL`: picks the role, prints why it failed.

use std::process::ExitCode;

use landfall_sample::{api, http, misuse, proxy, store};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["api"] => http::stop_on_sigterm().and_then(|()| api::run(&api::Settings::from_env())),
        ["proxy", file] => http::stop_on_sigterm().and_then(|()| proxy::run(file)),
        ["store"] => store::run("/data"),
        ["repair", how] => store::repair("/data", how),
        ["migrate"] => store::migrate(),
        ["misuse"] => http::stop_on_sigterm().and_then(|()| misuse::run()),
        ["fork"] => misuse::fork(),
        ["probe", url] => probe(url),
        _ => {
            eprintln!("usage: landfall-sample api | proxy FILE | store | repair MS | migrate | misuse | probe URL");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("landfall-sample {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// The health check of images that have no shell and no curl.
fn probe(url: &str) -> std::io::Result<()> {
    match http::get(url)? {
        answer if answer.status == 200 => Ok(()),
        answer => Err(std::io::Error::other(format!("answered {}", answer.status))),
    }
}
