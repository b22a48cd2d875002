//! Tables: one text, or several files, and what comes out.

use std::fs;

use super::*;

fn load(files: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::new(root.path());
    fs::create_dir_all(layout.config_drop_ins()).unwrap();
    for (name, text) in files {
        let path = if *name == "main" { layout.config_file() } else { layout.config_drop_ins().join(name) };
        fs::write(path, text).unwrap();
    }
    Settings::load(&layout)
}

const WEB: &str = "apps:\n  web:\n    channel: ghcr.io/acme/deploy:prod\n";

#[test]
fn defaults_are_stated() {
    let settings = load(&[("main", WEB)]).unwrap();
    assert_eq!(settings.host, Host::default());
    let app = settings.apps.values().next().unwrap();
    assert_eq!(app.channel.to_string(), "ghcr.io/acme/deploy:prod");
    assert_eq!((app.source, app.poll.as_secs()), (Source::Bundle, 5));
    assert!(!settings.plain_http("ghcr.io") && settings.plain_http("localhost:5000"));
    let kept: Settings = serde_json::from_str(&serde_json::to_string(&settings).unwrap()).unwrap();
    assert_eq!(kept, settings);
}

#[test]
fn everything_that_can_be_written() {
    let text = r#"
registries:
  "10.0.0.4:5000": { plain_http: true }
host: { reserve: { memory: 1G, disk: 5% }, require_caps: false, default_caps: { memory: 64M }, allow_binds: [/srv/data], publish: loopback }
apps:
  web:
    channel: localhost:5000/deploy:pr-42
    source: pointer
    poll: 1s
    profiles: [vm-edge]
    vars: { PORT: 8080, SWITCH: no, EMPTY: "" }
"#;
    let settings = load(&[("main", text)]).unwrap();
    assert!(settings.plain_http("10.0.0.4:5000"));
    let host = Host {
        reserve_memory: 1 << 30,
        reserve_disk: 5,
        require_caps: false,
        default_memory: Some(64 << 20),
        allow_binds: vec!["/srv/data".into()],
        publish_loopback_only: true,
        ..Host::default()
    };
    assert_eq!(settings.host, host);
    let app = &settings.apps.values().next().unwrap();
    assert_eq!(app.source, Source::Pointer);
    let vars: Vec<(&str, &str)> = app.vars.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(vars, [("EMPTY", ""), ("PORT", "8080"), ("SWITCH", "no")]);
}

#[test]
fn drop_ins_merge_maps_by_key_in_file_name_order_and_replace_all_else() {
    let settings = load(&[
        ("main", "host: { reserve: { memory: 1G, disk: 20% }, allow_binds: [/a, /b] }\napps: { web: { channel: \"a.b/c:1\", vars: { A: 1, B: 1 } } }"),
        ("20-b.yaml", "apps: { web: { vars: { B: 3 } } }"),
        ("10-a.yaml", "host: { reserve: { disk: 0% }, require_caps: false, allow_binds: [/c] }\napps: { web: { poll: 9s, vars: { B: 2, C: 2 } }, api: { channel: \"a.b/d:1\" } }"),
        (".hidden.yaml", "broken: ["),
        ("notes.txt", "broken: ["),
    ])
    .unwrap();
    assert_eq!((settings.host.reserve_memory, settings.host.reserve_disk), (1 << 30, 0));
    assert_eq!((settings.host.require_caps, settings.host.allow_binds), (false, vec!["/c".to_owned()]));
    let web = &settings.apps[&"web".parse().unwrap()];
    assert_eq!((web.channel.to_string().as_str(), web.poll.as_secs()), ("a.b/c:1", 9));
    assert_eq!(web.vars.values().map(String::as_str).collect::<Vec<_>>(), ["1", "3", "2"]);
    assert_eq!(settings.apps.len(), 2);
}

#[test]
fn previews_have_defaults_and_merge() {
    let main = "previews: { web: { channel: \"ghcr.io/acme/deploy:pr-*\", caps: { memory: 256M } } }";
    let drop_in =
        "previews: { web: { ports: 8100-8199, ports_each: 2, ttl: 48h, caps: { services: { db: { memory: 1G } } } } }";
    let settings = load(&[("main", main), ("10-ports.yaml", drop_in)]).unwrap();
    let web = settings.previews.values().next().unwrap();
    assert_eq!(web.channel.to_string(), "ghcr.io/acme/deploy:pr-*");
    assert_eq!((web.source, web.poll.as_secs(), web.ttl.as_secs()), (Source::Bundle, 5, 48 * 3600));
    assert_eq!(web.ports, Some(PortRange { first: 8100, last: 8199, each: 2 }));
    assert_eq!([web.caps.of("api"), web.caps.of("db")], [Some(256 << 20), Some(1 << 30)]);
    let kept: Settings = serde_json::from_str(&serde_json::to_string(&settings).unwrap()).unwrap();
    assert_eq!(kept, settings);
}

#[test]
fn a_vault_is_cached_as_it_says() {
    for (written, wanted) in [
        ("", (CacheMode::Auto, 720)),
        (", cache: auto", (CacheMode::Auto, 720)),
        (", cache: on, cache_age: 24h", (CacheMode::On, 24)),
        (", cache: \"off\", cache_age: 2160h", (CacheMode::Off, 2160)),
        (", cache: off", (CacheMode::Off, 720)),
    ] {
        let text = format!("vaults: {{ default: {{ url: \"https://a.b\"{written} }} }}");
        let settings = load(&[("main", &text)]).unwrap();
        let vault = &settings.vaults["default"];
        assert_eq!((vault.cache, vault.cache_age.as_secs() / 3600), wanted, "{written}");
    }
    let settings = load(&[
        ("main", "vaults: { default: { url: \"https://a.b\", cache: on } }"),
        ("10-x.yaml", "vaults: { default: { cache: off, cache_age: 2h } }"),
    ])
    .unwrap();
    let vault = &settings.vaults["default"];
    assert_eq!((vault.cache, vault.cache_age), (CacheMode::Off, std::time::Duration::from_hours(2)));
    // What an agent kept before there was a cache.
    let mut before = serde_json::to_value(&settings).unwrap();
    let kept = before["vaults"]["default"].as_object_mut().unwrap();
    kept.remove("cache");
    kept.remove("cache_age");
    let kept: Settings = serde_json::from_value(before).unwrap();
    let vault = &kept.vaults["default"];
    assert_eq!((vault.cache, vault.cache_age.as_secs()), (CacheMode::Auto, 720 * 3600));
}

#[test]
fn mistakes_have_a_place_and_a_next_step() {
    for (text, place, words) in [
        ("aps: {}", "1:1", "unknown key `aps`; did you mean `apps`?"),
        ("apps:\n  web:\n    chanel: a.b/c:1\n", "3:5", "unknown key `chanel`; did you mean `channel`?"),
        ("host:\n  zebra: 1\n", "2:3", "known here: `reserve`"),
        ("notify: {}", "1:1", "`notify` is not supported by this version"),
        ("vaults: { default: { url: \"http://a.b\" } }", "1:27", "expected `https://NAME.vault.azure.net`"),
        ("vaults: { default: { identity: me } }", "1:32", "expected `system`, `client-id:ID`"),
        ("vaults: { default: { allow: [a_b] } }", "1:30", "as in `stage-*`"),
        ("vaults: { default: { refresh: 1ms } }", "1:31", "expected `1s` to `24h`"),
        ("vaults: { default: { cache: true } }", "1:29", "expected `auto`, `on` or `off`"),
        ("vaults: { default: { cache_age: 91d } }", "1:33", "expected numbers with units"),
        ("vaults: { default: { cache_age: 2161h } }", "1:33", "expected `1s` to `2160h`"),
        ("vaults: { default: { cache_age: 999ms } }", "1:33", "expected `1s` to `2160h`"),
        ("host: { reserve: { cpu: 0.2 } }", "1:20", "`cpu` is not supported by this version"),
        ("host: { reserve: { disk: 100% } }", "1:26", "expected `0%` to `99%`"),
        ("host: { reserve: { disk: 10 } }", "1:26", "`10` is not a valid share of a disk"),
        ("host: { reserve: { disk: +1% } }", "1:26", "`+1%` is not a valid share of a disk"),
        ("host: { imds_users: [\"a b\"] }", "1:22", "`a b` is not a valid user"),
        ("host: { imds_users: [99999999999] }", "1:22", "`99999999999` is not a valid user"),
        ("host: { guard: true }", "1:16", "expected `on` or `off`"),
        ("registries: { ghcr.io: { username: \"a:b\" } }", "1:36", "expected a name without `:`"),
        ("registries: { ghcr.io: { secret: a_b } }", "1:34", "`a_b` is not a valid secret: expected `name`"),
        ("registries: { ghcr.io: { file: /x } }", "1:26", "`file` is not supported by this version"),
        ("units: { cloudflared: {} }", "1:10", "as in `cloudflared.service`"),
        ("units: { a.service: { a/b: c } }", "1:23", "`a/b` is not a valid credential"),
        ("units: { a.service: { a: b_c } }", "1:26", "`b_c` is not a valid secret"),
        ("apps: { web: { approval: manual } }", "1:16", "`approval` is not supported by this version"),
        ("apps: { web: { rollout: {} } }", "1:16", "`rollout` is not supported by this version"),
        ("apps: { web: { drift: heal } }", "1:16", "`drift` is not supported by this version"),
        ("apps: { web: { source: oci } }", "1:24", "expected `bundle`, `pointer` or `tags`"),
        ("apps: { Web: { } }", "1:9", "`Web` is not a valid app name"),
        ("apps: { web: { channel: web } }", "1:25", "`web` is not a valid channel"),
        ("apps: { web: { poll: 5 } }", "1:22", "`5` is not a valid duration"),
        ("apps: { web: { poll: 1ms } }", "1:22", "`1ms` is not a valid poll interval"),
        ("apps: { web: { vars: { COMPOSE_FILE: x } } }", "1:24", "`COMPOSE_FILE` is not a valid variable"),
        ("apps: { web: { vars: { DOCKER_HOST: x } } }", "1:24", "`DOCKER_HOST` is not a valid variable"),
        ("apps: { web: { vars: { A-B: x } } }", "1:24", "`A-B` is not a valid variable"),
        ("previews: { web: { channel: \"a.b/c:pr-1\" } }", "1:29", "with one `*` in the tag"),
        ("previews: { web: { ttl: 3d } }", "1:25", "`3d` is not a valid duration"),
        ("previews: { web: { ttl: 5s } }", "1:25", "expected `1m` to `8784h`"),
        ("previews: { web: { ports: 8100 } }", "1:27", "as in `8100-8199`"),
        ("previews: { web: { ports: 9-8 } }", "1:27", "as in `8100-8199`"),
        ("previews: { web: { caps: { cpus: 1 } } }", "1:28", "unknown key `cpus`; known here: `memory`, `services`"),
        ("host: { reserve: { memory: lots } }", "1:28", "`lots` is not a valid size"),
        ("host: { allow_binds: [data] }", "1:23", "`data` is not a valid path to bind"),
        ("host: { allow_binds: [/] }", "1:23", "`/` is not a valid path to bind"),
        ("host: { publish: everywhere }", "1:18", "everywhere"),
        ("host: { require_caps: maybe }", "1:23", "bool"),
        ("registries: { \"https://ghcr.io\": {} }", "1:15", "not a valid registry"),
        ("host: []", "1:7", "expected mapping"),
        ("apps: {\n", "1:7", "unclosed"),
        ("apps: {}\napps: {}\n", "2:1", "duplicate"),
    ] {
        let error = load(&[("main", text)]).expect_err(text);
        let shown = error.to_string();
        assert!(shown.contains(&format!("landfall.yaml:{place}: ")), "{text}: {shown}");
        assert!(shown.contains(words), "{text}: {shown}");
        assert!(!shown.contains('\n') && !shown.ends_with('.'), "{text}: {shown}");
    }
}

#[test]
fn the_guard_is_on_unless_somebody_says_off() {
    let host = |files: &[(&str, &str)]| load(files).unwrap().host;
    let main = ("main", "host: { imds_users: [1000, waagent] }");
    let named = host(&[main]);
    assert_eq!((named.guard, named.imds_users.join(" ").as_str()), (true, "1000 waagent"));
    let over = host(&[main, ("1-x.yaml", "host: { guard: off, imds_users: [] }")]);
    assert_eq!((over.guard, over.imds_users.len()), (false, 0));
    // What an agent kept before there were these.
    let mut before = serde_json::to_value(Host { guard: false, reserve_disk: 3, ..Host::default() }).unwrap();
    let later = ["guard", "imds_users", "reserve_disk"];
    before.as_object_mut().unwrap().retain(|key, _| !later.contains(&key.as_str()));
    assert_eq!(serde_json::from_value::<Host>(before).unwrap(), Host::default());
}

const VAULT: &str = "vaults: { default: { url: \"https://kv.vault.azure.net\", allow: [stage-*] } }";

/// What a person names here is no release's: `allow` says nothing of it.
#[test]
fn what_the_machine_itself_needs_of_vaults() {
    let main = "registries: { \"a.b:5000\": { username: bot, secret: pull }, c.d: { credential: /e } }\n\
                units: { tunnel.service: { TOKEN: one } }";
    let drop_in = "units: { tunnel.service: { TOKEN: two@1, KEY: three }, ship@eu.service: { KEY: three } }";
    let files = [("main", main), ("1-vault.yaml", VAULT), ("2-units.yaml", drop_in)];
    let settings = load(&files).unwrap();
    let registry = &settings.registries["a.b:5000"];
    let path = registry.credential.as_ref().unwrap();
    assert!(path.ends_with("run/landfall/credentials/a.b:5000"), "{}", path.display());
    assert_eq!(registry.credential_place().as_deref(), Some("the vault, as secret `pull`"));
    let waits = registry.read_credential("a.b:5000").unwrap_err().to_string();
    assert!(
        waits.starts_with("waits for the registry's credential from the vault (secret `pull` for `a.b:5000`)"),
        "{waits}"
    );
    assert_eq!(settings.registries["c.d"].credential_place().as_deref(), Some("`/e`"));
    let secrets = |unit: &str| settings.units[unit].iter().map(|(id, s)| format!("{id}={s}")).collect::<Vec<_>>();
    assert_eq!(secrets("tunnel.service"), ["KEY=three", "TOKEN=two@1"]);
    assert_eq!(secrets("ship@eu.service"), ["KEY=three"]);
    let kept: Settings = serde_json::from_str(&serde_json::to_string(&settings).unwrap()).unwrap();
    assert_eq!(kept, settings);
    let unit = format!("{}.service", "u".repeat(70));
    for (id, fits) in [("12345", true), ("123456", false)] {
        let text = format!("units: {{ {unit}: {{ \"{id}\": one }} }}");
        assert_eq!(load(&[("main", &text), ("a.yaml", VAULT)]).is_ok(), fits, "{id}");
    }
}

#[test]
fn a_mistake_in_a_drop_in_names_the_drop_in_and_shows_the_line() {
    let error = load(&[("main", WEB), ("50-x.yaml", "apps:\n  web: { pol: 5s }\n")]).unwrap_err();
    assert!(
        error.to_string().contains("landfall.d/50-x.yaml:2:10: unknown key `pol`; did you mean `poll`?"),
        "{error}"
    );
    assert_eq!(error.snippet(), "2 |   web: { pol: 5s }\n             ^");
}

#[test]
fn what_is_missing_is_named() {
    for (files, words) in [
        (vec![], "etc/landfall/landfall.yaml` is not there"),
        (vec![("main", "apps: { web: { poll: 5s } }")], "app `web` has no `channel`"),
        (vec![("main", "vaults: { kv: {} }")], "`vaults.kv` has no `url`"),
        (vec![("main", "vaults: { kv: { url: \"https://a.b\", directory: /c } }")], "keep the one that it is"),
        (vec![("main", "vaults: { kv: { directory: /c, identity: system } }")], "nobody asks for it"),
        (vec![("main", "vaults: { kv: { directory: /c, cache: on } }")], "it is on this machine already"),
        (vec![("main", "vaults: { kv: { directory: /c, cache_age: 1h } }")], "it is on this machine already"),
        (vec![("main", "previews: { web: { poll: 5s } }")], "`previews.web` has no `channel`"),
        (vec![("main", "registries: { a.b: { secret: c } }")], "`registries.a.b` has a `secret` and no `username`"),
        (vec![("main", "registries: { a.b: { username: c } }")], "`registries.a.b` has a `username` and no `secret`"),
        (
            vec![("main", "registries: { a.b: { username: c, secret: d, credential: /e } }")],
            "has a `credential` and a `secret`: keep the one that it is",
        ),
        (
            vec![("main", "registries: { a.b: { username: c, secret: kv/d } }"), ("a.yaml", VAULT)],
            "`registries.a.b.secret` is `kv/d`, and there is no vault `kv`; add `vaults.kv`",
        ),
        (
            vec![("main", "units: { a.service: { b: c } }")],
            "`units.a.service.b` is `c`, and there is no vault `default`",
        ),
        (
            vec![("main", "previews: { web: { channel: \"a.b/c:*\", ports_each: 2 } }")],
            "has `ports_each` and no `ports`",
        ),
        (vec![("main", "previews: { web: { channel: \"a.b/c:*\", ports: 1-3, ports_each: 4 } }")], "expected 1 to 3"),
    ] {
        let error = load(&files).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(load(&[("main", "")]).unwrap().apps.is_empty());
}
