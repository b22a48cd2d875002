//! landfall-exec in a container: it gives the process its secrets as environment (`x-landfall.secrets_env`), and probes an address
//! where the image has no tool for that (`x-landfall.health`). Pure: a service before, a service after.
//!
//! Docker keeps what stands in `environment:` in plain text on its disk; so the values stay in the mounted files, and the program
//! reads them when the container starts. Who sets an entrypoint loses the image's command, so both are restated. Health checks do
//! not have an entrypoint's environment, so they go through it too.

use crate::model::{Healthcheck, Service, Text};
use crate::mounts::{MountSpec, Source};
use crate::reading::Reading;
use crate::refusal::Rule;
use crate::secret_needs;
use crate::translate::ImageFacts;

/// Where the program is in a container. A contract: containers that run hold it.
const PROGRAM: &str = "/run/landfall/exec";

/// The service with the program before all that it starts. Problems are noted.
pub fn wrap(service: &Service, image: &ImageFacts, mounts: &mut Vec<MountSpec>, reading: &mut Reading<'_>) -> Service {
    let mut wrapped = service.clone();
    if let Some(url) = &service.landfall.health {
        probe(&mut wrapped, url, reading);
    }
    if !service.landfall.secrets_env.is_empty() {
        let run = run(service, reading);
        if service.landfall.health.is_none() {
            check_through(&mut wrapped, image, &run);
        }
        start_through(&mut wrapped, image, run, reading);
    }
    if service.landfall.health.is_some() || !service.landfall.secrets_env.is_empty() {
        mounts.push(MountSpec { target: PROGRAM.to_owned(), source: Source::Program, read_only: true });
        mounts.sort();
    }
    wrapped
}

fn probe(wrapped: &mut Service, url: &Text, reading: &mut Reading<'_>) {
    let key = "x-landfall.health";
    if !url.starts_with("http://") && !url.starts_with("tcp://") {
        let what = format!("`{url}` is no address: expected `http://:PORT/PATH` or `tcp://:PORT`");
        reading.problem(Rule::BadValue, key, what);
    }
    let check = wrapped.healthcheck.get_or_insert_with(Healthcheck::default);
    if check.disable || check.test.as_ref().is_some_and(|test| !test.is_empty()) {
        reading.problem(Rule::BadValue, key, "`healthcheck` says already how it is checked; keep one of the two");
    }
    check.test = Some(["CMD", PROGRAM, "probe", url].map(Text::from).to_vec());
}

/// `landfall-exec run` with all variables, up to where the program's own words begin.
fn run(service: &Service, reading: &mut Reading<'_>) -> Vec<Text> {
    let key = "x-landfall.secrets_env";
    let mut words = vec![Text::from(PROGRAM), Text::from("run")];
    for name in &service.landfall.secrets_env {
        let Some(used) = service.secrets.iter().find(|used| used.source == *name) else {
            let what = format!("`{name}` is none of the service's `secrets`; add it there");
            reading.problem(Rule::BadValue, key, what);
            continue;
        };
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !name.starts_with(first) || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            let what = format!("`{name}` cannot be a variable's name: use letters, digits and `_`");
            reading.problem(Rule::BadValue, key, what);
        }
        if service.environment.contains_key(&name.0) {
            let what = format!("`{name}` stands in `environment` too; keep one of the two");
            reading.problem(Rule::BadValue, key, what);
        }
        words.push(Text::from("--env"));
        words.push(Text(format!("{name}={}", secret_needs::target(used))));
    }
    words.push(Text::from("--"));
    words
}

fn start_through(wrapped: &mut Service, image: &ImageFacts, run: Vec<Text>, reading: &mut Reading<'_>) {
    let texts = |words: &[String]| words.iter().cloned().map(Text).collect::<Vec<_>>();
    let of_image = image.start.clone().unwrap_or_default();
    let (entrypoint, command) = match (&wrapped.entrypoint, &wrapped.command) {
        (Some(entrypoint), command) => (entrypoint.clone(), command.clone().unwrap_or_default()),
        (None, Some(command)) => (texts(&of_image.entrypoint), command.clone()),
        (None, None) => (texts(&of_image.entrypoint), texts(&of_image.command)),
    };
    if entrypoint.is_empty() && command.is_empty() && image.start.is_some() {
        let what = "neither the image nor the file says what to start";
        reading.problem(Rule::BadValue, "command", what);
    }
    wrapped.entrypoint = Some([run, entrypoint].concat());
    wrapped.command = Some(command);
}

fn check_through(wrapped: &mut Service, image: &ImageFacts, run: &[Text]) {
    let of_image = image.start.iter().flat_map(|start| &start.health_test).cloned().map(Text).collect();
    let check = wrapped.healthcheck.clone().unwrap_or_default();
    let test = check.test.clone().filter(|test| !test.is_empty()).unwrap_or(of_image);
    let words = match test.split_first() {
        Some((kind, words)) if &**kind == "CMD" => words.to_vec(),
        Some((kind, words)) if &**kind == "CMD-SHELL" => {
            [vec![Text::from("/bin/sh"), Text::from("-c")], words.to_vec()].concat()
        }
        // None, or none wanted.
        Some(_) | None => return,
    };
    if !check.disable {
        let test = [vec![Text::from("CMD")], run.to_vec(), words].concat();
        // The image's own times stay where the file is silent: the Engine takes those for what is zero.
        wrapped.healthcheck = Some(Healthcheck { test: Some(test), ..check });
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{LandfallKeys, SecretUse};
    use crate::translate::ImageStart;

    use super::*;

    fn words(texts: &[&str]) -> Vec<Text> {
        texts.iter().copied().map(Text::from).collect()
    }

    fn service() -> Service {
        Service {
            secrets: vec![SecretUse { source: "KEY".into(), ..SecretUse::default() }],
            landfall: LandfallKeys { secrets_env: words(&["KEY"]), ..LandfallKeys::default() },
            ..Service::default()
        }
    }

    fn image() -> ImageFacts {
        ImageFacts {
            start: Some(ImageStart {
                entrypoint: vec!["/entry".to_owned()],
                command: vec!["serve".to_owned()],
                health_test: vec!["CMD-SHELL".to_owned(), "curl -f localhost".to_owned()],
            }),
            ..ImageFacts::default()
        }
    }

    const RUN: [&str; 5] = [PROGRAM, "run", "--env", "KEY=/run/secrets/KEY", "--"];

    fn wrapped(service: &Service) -> (Vec<Text>, Vec<Text>, Option<Vec<Text>>) {
        let mut reading = Reading::of("web");
        let wrapped = wrap(service, &image(), &mut Vec::new(), &mut reading);
        assert!(reading.problems.is_empty(), "{:?}", reading.problems);
        let check = wrapped.healthcheck.and_then(|check| check.test);
        (wrapped.entrypoint.unwrap(), wrapped.command.unwrap(), check)
    }

    #[test]
    fn what_the_image_starts_is_restated() {
        let with = |more: &[&str]| words(&[&RUN, more].concat());
        let check = words(&[&["CMD"], &RUN[..], &["/bin/sh", "-c", "curl -f localhost"]].concat());
        assert_eq!(wrapped(&service()), (with(&["/entry"]), words(&["serve"]), Some(check)));
        let of_file = Service {
            command: Some(words(&["other"])),
            healthcheck: Some(Healthcheck { test: Some(words(&["CMD", "/check"])), ..Healthcheck::default() }),
            ..service()
        };
        let check = words(&[&["CMD"], &RUN[..], &["/check"]].concat());
        assert_eq!(wrapped(&of_file), (with(&["/entry"]), words(&["other"]), Some(check)));
        // Docker forgets the image's command where the file sets an entrypoint.
        let disabled = Some(Healthcheck { disable: true, ..Healthcheck::default() });
        let of_file = Service { entrypoint: Some(words(&["/mine"])), healthcheck: disabled, ..service() };
        assert_eq!(wrapped(&of_file), (with(&["/mine"]), Vec::new(), None));
    }

    #[test]
    fn what_cannot_be_given_is_refused() {
        let refused = |service: &Service, image: &ImageFacts| {
            let mut reading = Reading::of("web");
            wrap(service, image, &mut Vec::new(), &mut reading);
            reading.problems.iter().map(|problem| problem.what.clone()).collect::<Vec<_>>().join("; ")
        };
        let other = LandfallKeys { secrets_env: words(&["OTHER"]), ..LandfallKeys::default() };
        assert!(
            refused(&Service { landfall: other, ..service() }, &image()).contains("none of the service's `secrets`")
        );
        let twice = [("KEY".to_owned(), Some(Text::from("x")))].into();
        assert!(
            refused(&Service { environment: twice, ..service() }, &image()).contains("stands in `environment` too")
        );
        let empty = ImageFacts { start: Some(ImageStart::default()), ..image() };
        assert!(refused(&service(), &empty).contains("what to start"));
        let health = LandfallKeys { health: Some("ftp://x".into()), ..LandfallKeys::default() };
        assert!(refused(&Service { landfall: health, ..Service::default() }, &image()).contains("no address"));
    }
}
