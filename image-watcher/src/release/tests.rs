//! Identity is a contract, so it is computed here once more by hand; the tree is a table.

use landfall_core::ids::sha256_hex;

use super::*;
use crate::manifest::Blob;

fn app() -> AppName {
    "web".parse().unwrap()
}

fn blob(text: &str) -> Blob {
    Blob { digest: Digest::of(text.as_bytes()), size: text.len() as u64, inline: None }
}

fn artifact(kind: Kind, texts: &[&str]) -> (Artifact, BTreeMap<Digest, Vec<u8>>) {
    let annotations = [
        ("org.opencontainers.image.revision", "abc\n"),
        ("io.landfall.sequence", "7"),
        ("com.example.other", "not kept"),
    ];
    let annotations = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let content = texts.iter().map(|text| (Digest::of(text.as_bytes()), text.as_bytes().to_vec())).collect();
    (Artifact { kind, annotations }, content)
}

#[test]
fn a_bundle_becomes_a_tree_and_an_identity() {
    let title = |text: &str| text.parse().unwrap();
    let layers = vec![
        Layer { role: Role::File { title: title("z.conf"), executable: false }, blob: blob("z") },
        Layer { role: Role::Compose("compose.yaml".into()), blob: blob("one") },
        Layer { role: Role::Env(title("api.env")), blob: blob("A=1") },
        Layer { role: Role::Compose("prod.yaml".into()), blob: blob("two") },
        Layer { role: Role::Extends(title("base/b.yaml")), blob: blob("base") },
        Layer { role: Role::File { title: title("bin/init.sh"), executable: true }, blob: blob("init") },
    ];
    let (artifact, content) = artifact(Kind::Bundle(layers), &["z", "one", "A=1", "two", "base", "init"]);
    let staging = assemble(&app(), &artifact, &content).unwrap();

    let hex = |text: &str| sha256_hex(text.as_bytes());
    let by_hand = format!(
        "landfall-release-v1\ncompose 0644 compose.yaml {}\nenv 0644 api.env {}\ncompose 0644 prod.yaml {}\nextends 0644 base/b.yaml {}\nfile 0755 bin/init.sh {}\nfile 0644 z.conf {}\n",
        hex("one"),
        hex("A=1"),
        hex("two"),
        hex("base"),
        hex("init"),
        hex("z"),
    );
    assert_eq!(staging.record.release.as_str(), hex(&by_hand));
    assert_eq!(identity(&artifact), Some(staging.record.release.clone()));

    let tree: Vec<(&str, bool, &[u8])> =
        staging.tree.iter().map(|c| (c.path.as_str(), c.executable, c.bytes.as_slice())).collect();
    assert_eq!(
        tree,
        [
            ("project/z.conf", false, b"z".as_slice()),
            ("compose/0.yaml", false, b"one"),
            ("project/api.env", false, b"A=1"),
            ("compose/1.yaml", false, b"two"),
            ("project/base/b.yaml", false, b"base"),
            ("project/bin/init.sh", true, b"init"),
        ]
    );
    let StagedSource::Bundle { compose, files } = &staging.record.source else { panic!() };
    assert_eq!(compose, &["0.yaml", "1.yaml"]);
    assert_eq!(files.iter().map(|f| f.title.as_str()).collect::<Vec<_>>(), ["bin/init.sh", "z.conf"]);
    let kept: Vec<(&str, &str)> = staging.record.provenance.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(kept, [("io.landfall.sequence", "7"), ("org.opencontainers.image.revision", "abc\\n")]);
}

#[test]
fn pointer_documents() {
    let digest = Digest::of(b"image");
    let image = format!("ghcr.io/acme/api@{digest}");
    let good =
        format!(r#"{{"format":1,"images":{{"api":"{image}"}},"provenance":{{"commit":"abc","run":7}},"later":1}}"#);
    let (artifact_, content) = artifact(Kind::Pointer(blob(&good)), &[&good]);
    assert_eq!(identity(&artifact_), None);
    let staging = assemble(&app(), &artifact_, &content).unwrap();
    assert_eq!(staging.record.release, release_id_of_images([("api", &digest)]));
    assert_eq!(staging.record.source, StagedSource::Pointer { images: [("api".to_owned(), image)].into() });
    assert_eq!((staging.record.provenance["commit"].as_str(), staging.record.provenance["run"].as_str()), ("abc", "7"));

    let one = |service: &str, image: &str| format!(r#"{{"format":1,"images":{{"{service}":"{image}"}}}}"#);
    for (text, words) in [
        (String::new(), "does not parse"),
        ("[]".to_owned(), "does not parse"),
        (r#"{"format":1}"#.to_owned(), "missing field `images`"),
        (r#"{"format":2,"pictures":{}}"#.to_owned(), "has format 2, and this version reads 1"),
        (r#"{"format":1,"images":{}}"#.to_owned(), "names no image"),
        (one("api", "ghcr.io/acme/api:v1"), "`ghcr.io/acme/api:v1` is not `repository@sha256:…`"),
        (one("api", "ghcr.io/acme/api@sha256:00"), "pin the image"),
        (one("api", &format!("@{digest}")), "pin the image"),
        (one("api", &format!("-x@{digest}")), "pin the image"),
        (one("a b", &format!("x@{digest}")), "service `a b`"),
        (one("../x", &format!("x@{digest}")), "service `../x`"),
    ] {
        let (artifact, content) = artifact(Kind::Pointer(blob(&text)), &[&text]);
        let error = assemble(&app(), &artifact, &content).expect_err(&text).to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}
