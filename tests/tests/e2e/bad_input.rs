//! What must not be rolled out: each case is refused before anything is touched, with a message that names the thing and
//! the next step, and the stack that serves keeps every container.

use anyhow::{Context as _, Result, ensure};
use landfall_core::protocol::HistoryEvent;
use landfall_tests::events::Recorder;
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::{SOON, Vm};
use landfall_tests::wait::eventually;

/// What is changed in the sample's compose file, and what the refusal must say.
struct Case {
    name: &'static str,
    from: &'static str,
    to: &'static str,
    says: &'static [&'static str],
}

const STORE: &str = "    command: [\"store\"]\n";

const CASES: &[Case] = &[
    Case {
        name: "privileged",
        from: STORE,
        to: "    command: [\"store\"]\n    privileged: true\n",
        says: &["store", "privileged"],
    },
    Case {
        name: "the Docker socket",
        from: "      - data:/data\n",
        to: "      - data:/data\n      - /var/run/docker.sock:/var/run/docker.sock\n",
        says: &["store", "docker.sock"],
    },
    Case {
        name: "a host path",
        from: "      - data:/data\n",
        to: "      - data:/data\n      - /etc:/host\n",
        says: &["store", "/etc", "allow_binds"],
    },
    Case {
        name: "a bind through a volume's driver options",
        from: "  data: {}\n",
        to: "  data:\n    driver_opts: { type: none, o: bind, device: /etc }\n",
        says: &["data", "driver_opts"],
    },
    Case {
        name: "a provider",
        from: STORE,
        to: "    command: [\"store\"]\n    provider: { type: /bin/sh }\n",
        says: &["store", "provider"],
    },
    Case {
        name: "host network",
        from: STORE,
        to: "    command: [\"store\"]\n    network_mode: host\n",
        says: &["store", "network_mode"],
    },
    Case {
        name: "an unknown key of x-landfall",
        from: STORE,
        to: "    command: [\"store\"]\n    x-landfall: { schedule: \"0 * * * *\" }\n",
        says: &["store", "schedule", "not supported by this version"],
    },
    Case {
        name: "caps that do not fit",
        from: "      resources: { limits: { memory: 32M } }\n      update_config: { monitor: 2s }\n\nvolumes:",
        to: "      resources: { limits: { memory: 900G } }\n      update_config: { monitor: 2s }\n\nvolumes:",
        says: &["mem_limit", "store", "free"],
    },
    Case {
        name: "no cap",
        from: "      resources: { limits: { memory: 32M } }\n      update_config: { monitor: 2s }\n\nvolumes:",
        to: "      update_config: { monitor: 2s }\n\nvolumes:",
        says: &["store", "mem_limit"],
    },
    Case {
        name: "a cycle",
        from: STORE,
        to: "    command: [\"store\"]\n    depends_on: [proxy]\n",
        says: &["store", "proxy"],
    },
    Case {
        name: "a changed volume definition",
        from: "  data: {}\n",
        to: "  data: { labels: { tier: gold } }\n",
        says: &["data", "definition changed"],
    },
    Case {
        name: "a file that is not in the project",
        from: "./proxy.conf:",
        to: "./gone.conf:",
        says: &["proxy", "./gone.conf"],
    },
    Case {
        name: "a file of the host as env_file",
        from: STORE,
        to: "    command: [\"store\"]\n    env_file: /etc/environment\n",
        says: &["store", "env_file", "/etc/environment"],
    },
    Case {
        name: "a key that Compose does not know",
        from: STORE,
        to: "    command: [\"store\"]\n    imagee: typo\n",
        says: &["imagee"],
    },
];

#[test]
fn a_release_that_may_not_run_here_touches_nothing() {
    on_a_vm("refused", |vm| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        let app = vm.app.to_string();
        let serving = vm.engine.serving_ids(&app)?;
        let recorder = Recorder::start(&vm.engine, &[&app, vm.registry.address()])?;
        for case in CASES {
            refused(vm, case).with_context(|| format!("case `{}`", case.name))?;
            let changes = recorder.changes();
            ensure!(changes.is_empty(), "case `{}`: {changes:?}", case.name);
            assert_eq!(vm.engine.serving_ids(&app)?, serving, "{}", case.name);
            ensure!(vm.ask()?.version == "v1", "{}", case.name);
        }
        // And a good one goes through after all of them.
        vm.live(&vm.publish_version("v2", &[])?)?;
        Ok(())
    });
}

fn refused(vm: &Vm, case: &Case) -> Result<()> {
    vm.project.edit("compose.yaml", case.from, case.to)?;
    let seq = vm.last_seq()?;
    let published = vm.publish();
    vm.project.edit("compose.yaml", case.to, case.from)?;
    let said = match published {
        Ok(release) => {
            let entry = vm.recorded(seq, HistoryEvent::Refused, Some(&release))?;
            entry.reason.context("a refusal without a reason")?
        }
        // CI is told before anything is pushed: as good.
        Err(error) => format!("{error:#}"),
    };
    for word in case.says {
        ensure!(said.contains(word), "does not say `{word}`: {said}");
    }
    Ok(())
}

/// What becomes of landfall.yaml, and what status must say.
struct Mistake {
    name: &'static str,
    settings: fn(&str) -> Option<String>,
    says: &'static [&'static str],
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "an unknown key",
        settings: |good| Some(good.replace("\"apps\"", "\"appps\"")),
        says: &["landfall.yaml", "`appps`", "did you mean `apps`"],
    },
    Mistake {
        name: "a value of another kind",
        settings: |good| Some(good.replace("250ms", "soon")),
        says: &["landfall.yaml:1:", "`soon` is not a valid duration"],
    },
    Mistake { name: "no YAML", settings: |good| Some(good.replace('}', "")), says: &["landfall.yaml:1:", "unclosed"] },
    Mistake { name: "no file", settings: |_| None, says: &["landfall.yaml", "is not there; write it"] },
];

#[test]
fn a_mistake_saved_into_the_settings_stops_nothing() {
    on_a_vm("settings", |vm| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        let app = vm.app.to_string();
        let serving = vm.engine.serving_ids(&app)?;
        let path = vm.layout().config_file();
        let good = std::fs::read_to_string(&path)?;
        for mistake in MISTAKES {
            match (mistake.settings)(&good) {
                Some(text) => std::fs::write(&path, text)?,
                None => std::fs::remove_file(&path)?,
            }
            still_supervised(vm, mistake).with_context(|| format!("case `{}`", mistake.name))?;
            assert_eq!(vm.engine.serving_ids(&app)?, serving, "{}", mistake.name);
        }
        std::fs::write(&path, good)?;
        vm.live(&vm.publish_version("v2", &[])?)?;
        Ok(())
    });
}

/// Status tells the mistake, and supervision goes on, also in an agent that starts with the mistake in place.
fn still_supervised(vm: &mut Vm, mistake: &Mistake) -> Result<()> {
    let told = |vm: &Vm| {
        let shown = vm.landfall(&["status", "--json"])?;
        for words in mistake.says {
            ensure!(shown.stdout.contains(words), "status does not say `{words}`: {shown:?}");
        }
        Ok(())
    };
    eventually(SOON, "status tells the mistake", || told(vm))?;
    vm.kill_agent()?;
    vm.start_agent()?;
    eventually(SOON, "a new agent tells the mistake", || told(vm))?;
    let seq = vm.last_seq()?;
    vm.engine.kill(&vm.engine.serving(vm.app.as_str(), "api")?.id)?;
    // Seen before the new agent's first look, it is an outage that was recovered from; after it, a restart.
    let supervised = [HistoryEvent::Restarted, HistoryEvent::Recovered];
    eventually(SOON, "the api is started again", || {
        let entries = vm.history()?;
        ensure!(entries.iter().any(|e| e.seq > seq && supervised.contains(&e.event)), "{:?}", entries.last());
        Ok(())
    })?;
    eventually(SOON, "the api serves again", || vm.ask().map(drop))
}

#[test]
fn a_compose_file_that_is_not_there_is_told() {
    on_a_vm("no-file", |vm| {
        let missing = vm.project.directory().join("compos.yaml");
        let missing = missing.to_str().context("the path is no text")?;
        let said = vm.landfall(&["publish", &vm.channel(), "--file", missing])?;
        ensure!(said.code == 2, "{said:?}");
        for words in [missing, "next: name the compose file with `--file`"] {
            ensure!(said.stderr.contains(words), "publish does not say `{words}`: {said:?}");
        }
        Ok(())
    });
}
