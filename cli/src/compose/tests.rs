//! Compose text in, view out.

use super::*;

fn view(texts: &[&str]) -> Result<View, Failed> {
    let documents: Vec<Document> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| Document { title: format!("{at}.yaml"), bytes: text.as_bytes().to_vec() })
        .collect();
    read(&documents)
}

#[test]
fn what_matters_is_seen_and_the_rest_is_not() {
    let text = "
x-logging: &logging { driver: journald }
services:
  web:
    image: nginx:1.27
    build: .
    ports: [8080:80, 22:22]
    restart: no
    logging: *logging
    environment: { PORT: 0755, ON: yes }
    env_file:
      - a.env
      - path: b.env
        required: false
    volumes:
      - ./nginx.conf:/etc/nginx.conf:ro
      - data:/data
      - /srv/x:/x
      - ${DIR:-./y}:/y:ro
      - /anonymous
      - type: bind
        source: html
        target: /html
        bind: { create_host_path: false }
      - type: tmpfs
        target: /tmp
    x-landfall: { run: when-changed }
  123:
    image: busybox
    env_file: c.env
  empty:
configs:
  inline: { content: hello }
  app: { file: ./app.toml }
secrets:
  key: { file: ./dev/key, x-keyvault: key }
  outside: { external: true }
volumes:
  data: {}
";
    let view = view(&[text]).expect("it is valid");
    let web = &view.services["web"];
    assert_eq!(web.image.as_deref(), Some("nginx:1.27"));
    assert!(web.build);
    let binds: Vec<(&str, &str)> = web.binds.iter().map(|(t, s)| (t.as_str(), s.as_str())).collect();
    assert_eq!(
        binds,
        [("/etc/nginx.conf", "./nginx.conf"), ("/html", "html"), ("/x", "/srv/x"), ("/y", "${DIR:-./y}")]
    );
    assert_eq!(
        web.env_files,
        [EnvFile { path: "a.env".into(), required: true }, EnvFile { path: "b.env".into(), required: false }]
    );
    assert_eq!(view.services["123"].env_files[0].path, "c.env");
    assert_eq!(view.services.len(), 3);
    assert_eq!(view.configs, BTreeMap::from([("app".into(), "./app.toml".into())]));
    assert_eq!(view.secrets, BTreeSet::from(["./dev/key".into()]));
    assert_eq!(view.composed, None);
}

#[test]
fn later_documents_win() {
    let one = "services: { web: { image: a, volumes: ['./a:/a', './b:/b', './c:/c'] } }";
    let two = "services: { web: { image: b, volumes: ['./z:/a', 'data:/b'] } }\n---\nservices: { api: { image: c } }";
    let view = view(&[one, two]).expect("it is valid");
    let web = &view.services["web"];
    assert_eq!(web.image.as_deref(), Some("b"));
    assert_eq!(web.binds, BTreeMap::from([("/a".into(), "./z".into()), ("/c".into(), "./c".into())]));
    assert!(view.services.contains_key("api"));
}

#[test]
fn merge_keys_and_compose_tags_are_understood() {
    let text = "
x-base: &base
  image: base
  env_file: [base.env]
services:
  web:
    <<: *base
    ports: !override [8080:80]
    build: !reset null
";
    let view = view(&[text]).expect("it is valid");
    assert_eq!(view.services["web"].image.as_deref(), Some("base"));
    assert_eq!(view.services["web"].env_files[0].path, "base.env");
    assert!(!view.services["web"].build);
}

#[test]
fn extends_and_include_are_noticed() {
    for (text, place) in [
        ("include: [other.yaml]\nservices: { a: { image: x } }", "`include` in `0.yaml`"),
        ("services: { a: { extends: { file: b.yaml, service: b } } }", "`extends` of service `a` in `0.yaml`"),
        ("services: { a: { extends: b }, b: { image: x } }", "`extends` of service `a` in `0.yaml`"),
    ] {
        assert_eq!(view(&[text]).expect(text).composed.as_deref(), Some(place), "{text}");
    }
}

#[test]
fn what_cannot_be_read_names_the_file_and_the_place() {
    for (text, part) in [
        ("services: [", "`0.yaml` cannot be read as a compose file"),
        ("services: {}", "no services"),
        ("services: { a: { env_file: { x: y } } }", "a text or a sequence"),
        ("services: { a: { image: [x] } }", "`0.yaml`"),
        ("services: { a: { image: x }, a: { image: y } }", "duplicate"),
        (
            "a: &a [x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g]\nservices: { a: { image: x } }",
            "`0.yaml`",
        ),
    ] {
        let failed = view(&[text]).expect_err(text);
        assert!(failed.message.contains(part), "{text}: {}", failed.message);
        assert_eq!(failed.exit, crate::failure::Exit::Usage, "{text}");
    }
}

#[test]
fn a_secret_inside_the_project_is_known_by_its_absolute_path_too() {
    let mut view =
        view(&["services: { a: { image: x } }\nsecrets: { k: { file: /srv/app/key }, o: { file: /etc/k } }"])
            .expect("it is valid");
    view.secrets_below(Path::new("/srv/app"));
    assert_eq!(view.secrets, BTreeSet::from(["key".into(), "/etc/k".into()]));
}
