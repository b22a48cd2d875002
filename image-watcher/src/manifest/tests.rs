//! A table of manifests: what each is taken for, or the words of its refusal.

use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;

fn digest_of(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string()
}

fn layer(media_type: &str, text: &str, annotations: &[(&str, &str)]) -> Value {
    let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
    json!({"mediaType": media_type, "digest": digest_of(text), "size": text.len(), "annotations": annotations})
}

fn compose() -> Value {
    layer(COMPOSE_LAYER, "services: {}\n", &[(COMPOSE_FILE, "compose.yaml")])
}

#[expect(clippy::needless_pass_by_value, reason = "the tables read better")]
fn manifest(layers: Vec<Value>) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": BUNDLE,
        "config": {"mediaType": EMPTY_LAYER, "digest": digest_of("{}"), "size": 2},
        "layers": layers,
    })
}

fn with(mut manifest: Value, key: &str, value: Value) -> Value {
    manifest[key] = value;
    manifest
}

fn parse_value(value: &Value) -> Result<Artifact, BadManifest> {
    parse(value.to_string().as_bytes())
}

/// Each layer as one line.
fn shown(artifact: &Artifact) -> Vec<String> {
    match &artifact.kind {
        Kind::Pointer(blob) => vec![format!("pointer {}", blob.size)],
        Kind::Bundle(layers) => layers
            .iter()
            .map(|layer| {
                let inline = if layer.blob.inline.is_some() { " inline" } else { "" };
                match &layer.role {
                    Role::Compose(name) => format!("compose {name}{inline}"),
                    Role::Extends(title) => format!("extends {title}{inline}"),
                    Role::Env(title) => format!("env {title}{inline}"),
                    Role::File { title, executable } => format!("file {title} {executable}{inline}"),
                }
            })
            .collect(),
    }
}

#[test]
fn what_is_a_release() {
    let mut inline = compose();
    inline["data"] = json!(STANDARD.encode("services: {}\n"));
    let config = |media_type: &str| json!({"mediaType": media_type, "digest": digest_of("{}"), "size": 2});
    let untyped = |media_type: &str, layers: Vec<Value>| {
        let mut value = with(manifest(layers), "config", config(media_type));
        value.as_object_mut().unwrap().remove("artifactType");
        value
    };
    let pointer = || layer("application/json", "{}", &[]);
    for (name, manifest, wanted) in [
        ("one compose file", manifest(vec![compose()]), vec!["compose compose.yaml"]),
        ("OCI 1.0", untyped(BUNDLE_CONFIG_1_0, vec![compose()]), vec!["compose compose.yaml"]),
        ("type in the config", untyped(BUNDLE, vec![compose()]), vec!["compose compose.yaml"]),
        ("inline data", manifest(vec![inline]), vec!["compose compose.yaml inline"]),
        (
            "empty layers are skipped",
            manifest(vec![layer(EMPTY_LAYER, "{}", &[]), compose(), layer(EMPTY_LAYER, "{}", &[])]),
            vec!["compose compose.yaml"],
        ),
        (
            "oras titles",
            manifest(vec![layer(COMPOSE_LAYER, "a", &[(OCI_TITLE, "web.yaml")])]),
            vec!["compose web.yaml"],
        ),
        ("no title", manifest(vec![layer(COMPOSE_LAYER, "a", &[])]), vec!["compose "]),
        (
            "everything, in manifest order",
            manifest(vec![
                compose(),
                layer(FILE_LAYER, "b", &[(OCI_TITLE, "init.sh"), (FILE_MODE, "0755")]),
                layer(COMPOSE_LAYER, "c", &[(COMPOSE_FILE, "base.yaml"), (COMPOSE_EXTENDS, "true")]),
                layer(COMPOSE_LAYER, "d", &[(COMPOSE_FILE, "prod.yaml")]),
                layer(ENV_LAYER, "e", &[(COMPOSE_ENV_FILE, "api.env")]),
                layer(ENV_LAYER, "e", &[(OCI_TITLE, "env/other.env")]),
                layer(FILE_LAYER, "f", &[(OCI_TITLE, "conf/nginx.conf"), (FILE_MODE, "0644")]),
                layer(FILE_LAYER, "f", &[(OCI_TITLE, "conf/again.conf")]),
            ]),
            vec![
                "compose compose.yaml",
                "file init.sh true",
                "extends base.yaml",
                "compose prod.yaml",
                "env api.env",
                "env env/other.env",
                "file conf/nginx.conf false",
                "file conf/again.conf false",
            ],
        ),
        ("a pointer", with(manifest(vec![pointer()]), "artifactType", json!(POINTER)), vec!["pointer 2"]),
        ("a pointer by config", untyped(POINTER, vec![layer(EMPTY_LAYER, "{}", &[]), pointer()]), vec!["pointer 2"]),
    ] {
        let artifact = parse_value(&manifest).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(shown(&artifact), wanted, "{name}");
    }
}

#[test]
fn what_is_not() {
    let file = |title: &str| layer(FILE_LAYER, "x", &[(OCI_TITLE, title)]);
    let sized = |mut layer: Value, size: u64| {
        layer["size"] = json!(size);
        layer
    };
    let data = |text: &str| {
        let mut layer = compose();
        layer["data"] = json!(text);
        layer
    };
    let digest = |text: &str| {
        let mut layer = compose();
        layer["digest"] = json!(text);
        layer
    };
    let typed = |artifact_type: &str| with(manifest(vec![compose()]), "artifactType", json!(artifact_type));
    let image = |config: &str| with(typed(""), "config", json!({"mediaType": config}));
    let big_files = || (0..17).map(|n| sized(file(&format!("f{n}")), 1 << 20));
    for (manifest, words) in [
        (json!({"schemaVersion": 2, "manifests": []}), "an image index"),
        (
            with(manifest(vec![]), "mediaType", json!("application/vnd.docker.distribution.manifest.list.v2+json")),
            "an image index",
        ),
        (with(manifest(vec![]), "mediaType", json!("application/vnd.oci.image.index.v1+json")), "an image index"),
        (with(manifest(vec![compose()]), "schemaVersion", json!(1)), "`schemaVersion` is not 2"),
        (json!([]), "does not parse"),
        (json!({"schemaVersion": "2"}), "does not parse"),
        (image("application/vnd.oci.image.config.v1+json"), "a container image, not a release"),
        (image("application/vnd.docker.container.image.v1+json"), "a container image, not a release"),
        (typed("application/vnd.cncf.helm.chart"), "an artifact of type `application/vnd.cncf.helm.chart`"),
        (typed("x\u{1b}[2J"), "`x\\u{1b}[2J`"),
        (json!({"schemaVersion": 2}), "an artifact without a type"),
        (manifest(vec![]), "a bundle without a compose file"),
        (manifest(vec![file("a")]), "a bundle without a compose file"),
        (with(manifest(vec![]), "artifactType", json!(POINTER)), "a pointer with 0 documents"),
        (
            with(
                manifest(vec![layer("application/json", "1", &[]), layer("application/json", "2", &[])]),
                "artifactType",
                json!(POINTER),
            ),
            "a pointer with 2 documents",
        ),
        (with(manifest(vec![compose()]), "artifactType", json!(POINTER)), "a pointer document is JSON"),
        (
            manifest(vec![compose(), layer("application/vnd.oci.image.layer.v1.tar+gzip", "x", &[])]),
            "layer 2: its type `application/vnd.oci.image.layer",
        ),
        (
            manifest(vec![sized(compose(), (256 << 10) + 1)]),
            "layer 1 (`compose.yaml`) has 262145 bytes, and at most 262144",
        ),
        (manifest(vec![compose(), sized(file("a"), (1 << 20) + 1)]), "layer 2 (`a`) has 1048577 bytes"),
        (manifest(std::iter::once(compose()).chain(big_files()).collect()), "the release has 17825805 bytes"),
        (manifest(vec![sized(compose(), u64::MAX), sized(compose(), 2)]), "the release has 18446744073709551615 bytes"),
        (manifest(vec![compose(); 65]), "the manifest has 65 layers, and at most 64"),
        (manifest(vec![digest("sha512:00")]), "layer 1: `sha512:00` is not a valid digest"),
        (manifest(vec![data("%%%")]), "its inline data is not base64"),
        (manifest(vec![data(&STANDARD.encode("services: []\n"))]), "is not what its digest and size say"),
        (manifest(vec![data(&STANDARD.encode("longer than it says"))]), "is not what its digest and size say"),
        (manifest(vec![compose(), file("../x")]), "layer 2: the title `../x` has a `.` or `..` part"),
        (manifest(vec![compose(), file("/etc/passwd")]), "is an absolute path"),
        (manifest(vec![compose(), file("a"), file("a")]), "layer 3: the title `a` is used twice"),
        (manifest(vec![compose(), file("a/b"), file("a")]), "layer 3: the title `a` is a file here and a directory"),
        (manifest(vec![compose(), layer(FILE_LAYER, "x", &[])]), "layer 2: the title `` is empty"),
        (manifest(vec![compose(), layer(ENV_LAYER, "x", &[])]), "layer 2: the title `` is empty"),
        (
            manifest(vec![
                compose(),
                layer(COMPOSE_LAYER, "x", &[(COMPOSE_EXTENDS, "true"), (COMPOSE_FILE, "../up.yaml")]),
            ]),
            "`../up.yaml`",
        ),
        (
            manifest(vec![compose(), layer(FILE_LAYER, "x", &[(OCI_TITLE, "a"), (FILE_MODE, "4755")])]),
            "layer 2: its mode is `4755`",
        ),
    ] {
        let text = manifest.to_string();
        let error = parse_value(&manifest).expect_err(&text).to_string();
        assert!(error.contains(words), "{text}\n{error}");
        assert!(error.contains("; ") && !error.ends_with('.') && !error.chars().any(char::is_control), "{error}");
    }
}

#[test]
fn bytes_that_are_no_manifest() {
    for (bytes, words) in [
        (b"".to_vec(), "does not parse"),
        (b"{".to_vec(), "does not parse"),
        (b"<html>".to_vec(), "does not parse"),
        (vec![b'['; 100_000], "does not parse"),
        (vec![b' '; MANIFEST_LIMIT + 1], "the manifest has 1048577 bytes"),
        (vec![0xff, 0xfe], "does not parse"),
    ] {
        let error = parse(&bytes).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn annotations_of_the_manifest_are_kept() {
    let manifest = with(manifest(vec![compose()]), "annotations", json!({"io.landfall.sequence": "7"}));
    assert_eq!(parse_value(&manifest).unwrap().annotations["io.landfall.sequence"], "7");
}
