//! `landfall publish` against a real registry: what is pushed is read back by plain HTTP, and the release id is computed
//! here again, without our code.

mod registry;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use registry::{Registry, USER, sha256};
use serde_json::{Value, json};

const COMPOSE: &str = "# kept byte for byte\nservices:\n  web:\n    image: REGISTRY/web:${TAG:-v1}\n    env_file: web.env\n    \
    volumes: ['./conf/nginx.conf:/etc/nginx.conf:ro', './html:/html']\n  job:\n    image: REGISTRY/job:${JOB}\n\
    secrets:\n  key: { file: ./html/key }\n";

type Variables<'a> = &'a [(&'a str, &'a str)];

fn publish(project: &Path, arguments: &[&str]) -> Output {
    publish_as(project, arguments, &[])
}

fn publish_as(project: &Path, arguments: &[&str], environment: Variables<'_>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_landfall"))
        .arg("publish")
        .args(arguments)
        .current_dir(project)
        .env_clear()
        .env("HOME", project)
        .env("PATH", "/usr/bin:/bin")
        // What a proxied CI has: it must not be asked for what is on loopback.
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .env("GITHUB_SHA", "0123abc")
        .envs(environment.iter().copied())
        .output()
        .expect("landfall runs")
}

fn project(registry: &Registry) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |path: &str, text: &str| {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(path, text).expect("written");
    };
    write("compose.yaml", &COMPOSE.replace("REGISTRY", &registry.host));
    write("web.env", "A=1\n");
    write("conf/nginx.conf", "server {}\n");
    write("html/index.html", "");
    write("html/run.sh", "#!/bin/sh\n");
    write("html/key", "never");
    fs::set_permissions(directory.path().join("html/run.sh"), fs::Permissions::from_mode(0o755)).expect("set");
    directory
}

fn stdout_json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn a_bundle_arrives_whole_and_republishing_it_is_not_new() {
    let registry = Registry::start();
    let web = registry.put_image("web", "v1");
    let job = registry.put_image("job", "v7");
    let project = project(&registry);
    let channel = format!("{}/deploy:prod", registry.host);
    let job_image = format!("job={}/job:v7", registry.host);

    let first = stdout_json(&publish(project.path(), &["--json", "--image", &job_image, &channel]));
    let (manifest, digest) = registry.manifest("deploy", "prod");
    assert_eq!(first["digest"], json!(digest));
    assert_eq!(registry.manifest("deploy", &digest).0, manifest, "by digest and by tag");
    assert_eq!(manifest["artifactType"], "application/vnd.docker.compose.project");
    assert_eq!(manifest["annotations"]["io.landfall.channel"], json!(channel));
    assert_eq!(manifest["annotations"]["org.opencontainers.image.revision"], "0123abc");

    let pinned = format!(
        "services:\n  \"job\":\n    image: \"{0}/job@{job}\"\n  \"web\":\n    image: \"{0}/web@{web}\"\n",
        registry.host
    );
    let compose = COMPOSE.replace("REGISTRY", &registry.host);
    let expected = [
        ("compose", "0644", "compose.yaml", compose.as_str()),
        ("compose", "0644", "image-digests.yaml", pinned.as_str()),
        ("env", "0644", "web.env", "A=1\n"),
        ("file", "0644", "conf/nginx.conf", "server {}\n"),
        ("file", "0644", "html/index.html", ""),
        ("file", "0755", "html/run.sh", "#!/bin/sh\n"),
    ];
    let layers = manifest["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), expected.len());
    let mut lines = "landfall-release-v1\n".to_owned();
    for (layer, (kind, mode, title, content)) in layers.iter().zip(expected) {
        let digest = layer["digest"].as_str().expect("a digest");
        assert_eq!(layer["annotations"]["org.opencontainers.image.title"], title);
        assert_eq!(String::from_utf8_lossy(&registry.get(&format!("/v2/deploy/blobs/{digest}")).1), content, "{title}");
        let hex = digest.strip_prefix("sha256:").expect("sha256");
        lines = format!("{lines}{kind} {mode} {title} {hex}\n");
    }
    assert_eq!(first["release"], json!(sha256(lines.as_bytes())));

    let second = stdout_json(&publish(project.path(), &["--json", "--image", &job_image, &channel]));
    assert_eq!(second["release"], first["release"], "the same content is the same release");
    assert_ne!(second["digest"], first["digest"], "and a new publication");
    assert!(second["sequence"].as_u64() > first["sequence"].as_u64());

    let plain = publish(project.path(), &["--image", &job_image, &channel]);
    let text = String::from_utf8_lossy(&plain.stdout).into_owned();
    let digest = registry.manifest("deploy", "prod").1;
    assert_eq!(text, format!("release {}\ndigest {digest}\n", first["release"].as_str().expect("text")));
}

#[test]
fn a_pointer_names_images_only() {
    let registry = Registry::start();
    let digest = registry.put_image("api", "v1");
    let directory = tempfile::tempdir().expect("a directory");
    let channel = format!("{}/deploy:prod", registry.host);
    let image = format!("api={}/api:v1", registry.host);
    let published = stdout_json(&publish(directory.path(), &["--json", "--pointer", "--image", &image, &channel]));
    let manifest = registry.manifest("deploy", "prod").0;
    assert_eq!(manifest["artifactType"], "application/vnd.landfall.pointer.v1");
    let layer = manifest["layers"][0]["digest"].as_str().expect("a digest").to_owned();
    let document: Value = serde_json::from_slice(&registry.get(&format!("/v2/deploy/blobs/{layer}")).1).expect("JSON");
    assert_eq!(document["format"], 1);
    assert_eq!(document["images"], json!({ "api": format!("{}/api@{digest}", registry.host) }));
    assert_eq!(document["provenance"]["org.opencontainers.image.revision"], "0123abc");
    assert_eq!(published["release"], json!(sha256(format!("landfall-release-v1\napi {digest}\n").as_bytes())));
}

#[test]
fn what_fails_leaves_the_channel_alone_and_says_what_to_do() {
    let registry = Registry::start();
    registry.put_image("web", "v1");
    let project = project(&registry);
    let channel = format!("{}/deploy:prod", registry.host);
    let web = format!("job={}/web:v1", registry.host);
    let absent = format!("job={}/web:absent", registry.host);
    symlink("/etc/hostname", project.path().join("conf/link")).expect("linked");
    let linked = project.path().join("linked.yaml");
    fs::write(&linked, "services: { web: { image: x, volumes: ['./conf:/c'] } }").expect("written");
    let table: &[(&[&str], i32, &str, &str)] = &[
        (&[&channel], 2, "depends on `JOB`", "--image SERVICE="),
        (&["--image", &absent, &channel], 1, "MANIFEST_UNKNOWN", "--image job="),
        (&["--image", &web, "127.0.0.1:1/deploy:prod"], 5, "refused", "--plain-http"),
        (&["-f", "linked.yaml", &channel], 2, "`conf/link`, a symbolic link", ""),
        (&["-f", "absent.yaml", &channel], 2, "cannot read `absent.yaml`", ""),
        (&["--project-directory", "html", &channel], 2, "there is no `compose.yaml` in `html`", "-f"),
        (&["deploy:prod"], 2, "not a valid channel", ""),
    ];
    for (arguments, code, message, next) in table {
        let output = publish(project.path(), arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).replace("\n        ", " ");
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(message) && stderr.contains(next), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    assert_eq!(registry.get("/v2/deploy/manifests/prod").0, 404);
}

#[test]
fn extends_and_include_are_made_one_document() {
    let registry = Registry::start();
    registry.put_image("web", "v1");
    let directory = tempfile::tempdir().expect("a directory");
    let write = |path: &str, text: &str| fs::write(directory.path().join(path), text).expect("written");
    fs::create_dir(directory.path().join("sub")).expect("created");
    let image = format!("{}/web:v1", registry.host);
    write(
        "compose.yaml",
        &format!(
            "include: [sub/more.yaml]\nservices: {{ web: {{ extends: {{ file: sub/base.yaml, service: base }}, image: '{image}' }} }}"
        ),
    );
    write("sub/base.yaml", "services: { base: { env_file: base.env, environment: { A: '${A}' } } }");
    write(
        "sub/more.yaml",
        &format!("services: {{ more: {{ image: '{image}', profiles: [x], x-landfall: {{ run: every-start }} }} }}"),
    );
    write("sub/base.env", "B=1\n");
    let channel = format!("{}/deploy:prod", registry.host);
    stdout_json(&publish(directory.path(), &["--json", &channel]));
    let manifest = registry.manifest("deploy", "prod").0;
    let layers = manifest["layers"].as_array().expect("layers");
    let titles: Vec<&str> =
        layers.iter().filter_map(|l| l["annotations"]["org.opencontainers.image.title"].as_str()).collect();
    assert_eq!(titles, ["compose.yaml", "image-digests.yaml", "sub/base.env"]);
    let digest = layers[0]["digest"].as_str().expect("a digest");
    let text = String::from_utf8(registry.get(&format!("/v2/deploy/blobs/{digest}")).1).expect("text");
    for part in ["more:", "x-landfall:", "${A}", "sub/base.env", "profiles:"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("extends") && !text.contains("include"), "{text}");
}

#[test]
fn credentials_come_from_the_environment_or_the_docker_config() {
    let registry = Registry::start_closed();
    let directory = tempfile::tempdir().expect("a directory");
    let (root, host) = (directory.path(), registry.host.as_str());
    let configured = |name: &str, config: Value| {
        fs::create_dir(root.join(name)).expect("created");
        fs::write(root.join(name).join("config.json"), config.to_string()).expect("written");
        root.join(name).display().to_string()
    };
    let helper = root.join("docker-credential-test");
    let answer = json!({ "ServerURL": host, "Username": USER.0, "Secret": USER.1 });
    let script = format!("#!/bin/sh\nread -r server\n[ \"$1 $server\" = 'get {host}' ] && echo '{answer}'\n");
    fs::write(&helper, script).expect("written");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("set");
    let auths = configured("auths", json!({ "auths": { host: { "auth": "Ym90OnA6YSsvc3M=" } } }));
    let helpers = configured("helpers", json!({ "credHelpers": { host: "test" } }));
    let absent = configured("absent", json!({ "auths": { host: {} }, "credsStore": "absent" }));
    let path = format!("{}:/usr/bin:/bin", root.display());
    let user = ("LANDFALL_REGISTRY_USERNAME", USER.0);
    let table: &[(Variables<'_>, i32, &str)] = &[
        (&[], 1, "401"),
        (&[user, ("LANDFALL_REGISTRY_PASSWORD", "wrong")], 1, "docker login"),
        (&[user], 2, "LANDFALL_REGISTRY_PASSWORD"),
        (&[("DOCKER_CONFIG", &absent), ("PATH", &path)], 1, "`docker-credential-absent`"),
        (&[user, ("LANDFALL_REGISTRY_PASSWORD", USER.1)], 0, "published"),
        (&[("DOCKER_CONFIG", &auths)], 0, "published"),
        (&[("DOCKER_CONFIG", &helpers), ("PATH", &path)], 0, "published"),
    ];
    let image = format!("api=r.example/api@sha256:{}", "a".repeat(64));
    let channel = format!("{host}/deploy:prod");
    for (environment, code, words) in table {
        let output = publish_as(root, &["--pointer", "--image", &image, &channel], environment);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{environment:?}: {stderr}");
        assert!(stderr.contains(words), "{environment:?}: {stderr}");
        assert!(!stderr.contains(USER.1), "{environment:?}: the password is shown: {stderr}");
    }
}
