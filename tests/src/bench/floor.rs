//! The floor: by hand, by the Engine's API alone, only what must be done for a new image: pull it, create its container,
//! stop the old one, start the new one. It checks nothing, keeps no way back, and knows beforehand what to do.

use anyhow::{Context as _, Result, ensure};
use landfall_sample::http;
use serde_json::{Value, json};

use crate::engine::{Container, Engine, escape};

/// What is known before the clock starts.
#[derive(Debug)]
pub struct Plan {
    old: Container,
    name: String,
    body: Value,
    image: String,
}

/// Plans the replacement of a service by the same container of another image.
pub fn plan(engine: &Engine, project: &str, service: &str, image: &str) -> Result<Plan> {
    let old = engine.serving(project, service)?;
    let like = engine.inspect(&old.id)?;
    let of = like["Image"].as_str().context("no `Image`")?;
    let baked = engine.call("GET", &format!("/images/{of}/json"), None)?["Config"]["Env"].clone();
    let mut body = like["Config"].clone();
    let config = body.as_object_mut().context("no `Config`")?;
    // What the file says, without what the old image said.
    for from_image in ["Hostname", "Cmd", "Entrypoint", "WorkingDir", "Volumes"] {
        config.remove(from_image);
    }
    let kept = |all: &Value| -> Vec<Value> {
        let baked = baked.as_array().cloned().unwrap_or_default();
        all.as_array().into_iter().flatten().filter(|one| !baked.contains(one)).cloned().collect()
    };
    let environment = kept(&config["Env"]);
    config.insert("Env".into(), environment.into());
    config.insert("Image".into(), image.into());
    config.insert("HostConfig".into(), like["HostConfig"].clone());
    let networks = like["NetworkSettings"]["Networks"].as_object().context("no networks")?;
    let endpoints = networks.keys().map(|name| (name.clone(), json!({ "Aliases": [service] })));
    let endpoints: serde_json::Map<_, _> = endpoints.collect();
    config.insert("NetworkingConfig".into(), json!({ "EndpointsConfig": endpoints }));
    // Another name than any earlier one: renaming is not something that must be done.
    let name = format!("{project}-{service}-{}", &image[image.len().saturating_sub(12)..]);
    Ok(Plan { old, name, body, image: image.to_owned() })
}

impl Plan {
    /// Does it; the new container runs and is not healthy yet.
    pub fn execute(&self, engine: &Engine) -> Result<()> {
        pull(engine, &self.image)?;
        let made = engine.call("POST", &format!("/containers/create?name={}", self.name), Some(&self.body))?;
        let new = made["Id"].as_str().context("the Engine names no new container")?;
        engine.call("POST", &format!("/containers/{}/stop", self.old.id), None)?;
        engine.call("POST", &format!("/containers/{new}/start"), None)?;
        Ok(())
    }

    /// Removes the old container, after the clock was stopped.
    pub fn tidy(&self, engine: &Engine) -> Result<()> {
        engine.call("DELETE", &format!("/containers/{}?v=1", self.old.id), None).map(drop)
    }
}

fn pull(engine: &Engine, image: &str) -> Result<()> {
    let target = format!("/images/create?fromImage={}", escape(image));
    let answer = http::exchange(engine.connect()?, ("POST", &target), &[("Host", "docker")], &[])?;
    // A line of JSON per piece of progress; a failure is one of them.
    ensure!(answer.status == 200 && !answer.text().contains("\"error\""), "cannot pull `{image}`: {}", answer.text());
    Ok(())
}
