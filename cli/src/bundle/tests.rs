//! Tables: a project in memory and a compose text in, the layers (or the words of the refusal) out.

use std::io;

use super::*;

/// A project directory in memory: path to content; `*` after a path means executable, `>` a link.
struct Memory(Vec<(&'static str, Vec<u8>)>);

impl Files for Memory {
    fn look(&self, path: &str, limit: usize) -> io::Result<Node> {
        let mut names = BTreeSet::new();
        for (found, bytes) in &self.0 {
            let name = found.trim_end_matches(['*', '>']);
            if name == path {
                if found.ends_with('>') {
                    return Ok(Node::Other("a symbolic link"));
                }
                let bytes = bytes[..bytes.len().min(limit + 1)].to_vec();
                return Ok(Node::File { bytes, executable: found.ends_with('*') });
            }
            let below =
                if path.is_empty() { Some(name) } else { name.strip_prefix(path).and_then(|n| n.strip_prefix('/')) };
            names.extend(below.and_then(|b| b.split('/').next()).map(str::to_owned));
        }
        Ok(if names.is_empty() { Node::Missing } else { Node::Directory(names.into_iter().collect()) })
    }
}

fn bundle(compose: &str, files: &Memory) -> Result<Bundle, Failed> {
    let documents = vec![Document { title: "compose.yaml".into(), bytes: compose.as_bytes().to_vec() }];
    let view = crate::compose::read(&documents)?;
    collect(documents, &view, files)
}

fn project() -> Memory {
    Memory(
        [
            ("app.toml", "app"),
            ("conf/nginx.conf", "conf"),
            ("html/index.html", "index"),
            ("html/run.sh*", "run"),
            ("html/deep/er/x", "x"),
            ("html/secret/key", "k"),
            ("linked/a>", ""),
            ("web.env", "A=1"),
            ("dev/key", "k"),
        ]
        .map(|(path, text)| (path, text.as_bytes().to_vec()))
        .to_vec(),
    )
}

#[test]
fn layers_of_a_project() {
    let compose = "
services:
  web:
    image: nginx
    env_file: [./web.env, {path: absent.env, required: false}]
    volumes:
      - ./conf/../conf/nginx.conf:/etc/nginx.conf:ro
      - {type: bind, source: html, target: /html}
      - /srv/data:/data
      - ~/x:/x
      - named:/named
  again:
    image: nginx
    env_file: web.env
    volumes: ['./html/index.html:/index.html']
configs: { app: { file: app.toml }, host: { file: /etc/hosts } }
secrets: { key: { file: ./dev/key }, below: { file: html/secret } }
";
    let mut bundle = bundle(compose, &project()).expect("it is valid");
    bundle.pin(&BTreeMap::from([("web".to_owned(), "r.example/nginx@sha256:00".to_owned())]));
    let lines: Vec<String> =
        bundle.layers.iter().map(|l| format!("{} {} {}", l.kind.word(), l.mode(), l.title)).collect();
    assert_eq!(
        lines,
        [
            "compose 0644 compose.yaml",
            "compose 0644 image-digests.yaml",
            "env 0644 web.env",
            "file 0644 app.toml",
            "file 0644 conf/nginx.conf",
            "file 0644 html/deep/er/x",
            "file 0644 html/index.html",
            "file 0755 html/run.sh",
        ]
    );
    assert_eq!(bundle.layers[0].bytes, compose.as_bytes(), "byte for byte");
    assert_eq!(
        String::from_utf8_lossy(&bundle.layers[1].bytes),
        "services:\n  \"web\":\n    image: \"r.example/nginx@sha256:00\"\n"
    );
}

/// Regression: the watcher refuses a title that two layers have.
#[test]
fn a_file_that_is_mounted_and_an_env_file_is_one_layer() {
    let compose = "services: { a: { image: x, env_file: web.env, volumes: ['./web.env:/e'] } }";
    let bundle = bundle(compose, &project()).expect("it is valid");
    let lines: Vec<&str> = bundle.layers.iter().map(|l| l.kind.word()).collect();
    assert_eq!(lines, ["compose", "file"]);
}

#[test]
fn what_a_bundle_cannot_carry_is_refused_with_its_place() {
    let with = |volume: &str| format!("services: {{ web: {{ image: x, volumes: ['{volume}:/t'] }} }}");
    let mut crowded = project();
    crowded.0.extend((0..80).map(|n| (Box::leak(format!("many/{n:02}").into_boxed_str()) as &str, Vec::new())));
    crowded.0.push(("large", vec![0; FILE_LIMIT + 1]));
    crowded.0.push(("large.env", vec![b'#'; DOCUMENT_LIMIT + 1]));
    crowded.0.push((".tmp-x", Vec::new()));
    crowded
        .0
        .extend((0..17).map(|n| (Box::leak(format!("heavy/{n:02}").into_boxed_str()) as &str, vec![0; FILE_LIMIT])));
    let table = [
        (with("./data"), "service `web`, volume `/t`: `./data` is not there; a bundle carries files, not data"),
        (with("${DIR:-./x}"), "`${DIR:-./x}` depends on variables"),
        (with("../up"), "lies outside of the project"),
        (with("./a/../../up"), "lies outside of the project"),
        (with("./linked"), "has `linked/a`, a symbolic link"),
        (with("./linked/a"), "is or goes through a symbolic link"),
        (with("./large"), "larger than 1024 KiB"),
        (with("./.tmp-x"), "begins like a temporary file"),
        ("services: { a: { image: x, env_file: large.env } }".into(), "larger than 256 KiB"),
        (with("./many"), "one file too many"),
        (with("./heavy"), "16 MiB in all"),
        ("services: { a: { image: x, env_file: no.env } }".into(), "`no.env` is not there; write it, or set"),
        ("services: { a: { image: x, env_file: html } }".into(), "is a directory"),
        (
            "services: { a: { image: x } }\nconfigs: { c: { file: no.toml } }".into(),
            "config `c`: `no.toml` is not there",
        ),
        (format!("{}\nsecrets: {{ s: {{ file: ./dev/key }} }}", with("./dev/key")), "never published"),
        (format!("{}\nsecrets: {{ s: {{ file: ./dev }} }}", with("./dev/key")), "never published"),
        (format!("{}\nsecrets: {{ s: {{ file: dev/key }} }}", with("./dev")), "without a file that could be published"),
        (format!("{}\nsecrets: {{ s: {{ file: '${{D}}/key' }} }}", with("./html")), "cannot be known here"),
    ];
    for (compose, part) in &table {
        let failed = bundle(compose, &crowded).expect_err(compose);
        assert!(failed.message.contains(part), "{compose}: {}", failed.message);
        assert_eq!(failed.exit, Exit::Usage, "{compose}");
    }
}

#[test]
fn all_refusals_are_told_at_once() {
    let failed =
        bundle("services: { a: { image: x, env_file: no.env, volumes: ['./no:/a', '../no:/b'] } }", &project())
            .expect_err("three things are wrong");
    assert_eq!(failed.message.lines().count(), 3, "{}", failed.message);
}

#[test]
fn a_document_beyond_the_limit_is_refused() {
    let compose = format!("services: {{ a: {{ image: x }} }}\n#{}\n", "x".repeat(DOCUMENT_LIMIT));
    assert!(bundle(&compose, &project()).expect_err("too large").message.contains("256 KiB"));
}

#[test]
fn the_identity_is_of_content_titles_and_modes() {
    let compose = "services: { a: { image: x, volumes: ['./html:/h'] } }";
    let one = bundle(compose, &project()).expect("valid").release_id();
    assert_eq!(one, bundle(compose, &project()).expect("valid").release_id());
    let mut other = project();
    other.0.retain(|(path, _)| *path != "html/run.sh*");
    other.0.push(("html/run.sh", b"run".to_vec()));
    assert_ne!(one, bundle(compose, &other).expect("valid").release_id(), "the mode counts");
}
