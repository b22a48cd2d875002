//! Which image of which service, and provenance: tables.

use super::*;

#[test]
fn images_come_from_the_option_first() {
    let text = "services: { web: { image: 'nginx:${TAG:-1.27}' }, api: { image: 'ghcr.io/acme/api:${TAG}' }, job: { build: . } }";
    let documents = [Document { title: "compose.yaml".into(), bytes: text.as_bytes().to_vec() }];
    let view = compose::read(&documents).expect("valid");
    let image = |text: &str| -> (String, Image) {
        let (service, image) = text.split_once('=').expect("a pair");
        (service.to_owned(), image.parse().expect("an image"))
    };
    let table: &[(&[&str], Result<&str, &str>)] = &[
        (
            &["api=r.example/api:v2", "job=r.example/job"],
            Ok("api=r.example/api:v2 job=r.example/job:latest web=docker.io/library/nginx:1.27"),
        ),
        (&["api=r.example/api:v2"], Err("service `job` has a `build` and no image")),
        (&["job=r.example/job"], Err("service `api`, image `ghcr.io/acme/api:${TAG}`: depends on `TAG`")),
        (&["nope=x"], Err("no such service")),
        (&["api=x", "api=y"], Err("given twice")),
    ];
    for (given, expected) in table {
        let given: Vec<(String, Image)> = given.iter().map(|text| image(text)).collect();
        match (wanted_images(Some(&view), &given), expected) {
            (Ok(images), Ok(expected)) => {
                let text: Vec<String> = images.iter().map(|(service, image)| format!("{service}={image}")).collect();
                assert_eq!(text.join(" "), *expected);
            }
            (Err(failed), Err(part)) => assert!(failed.message.contains(part), "{}", failed.message),
            (got, expected) => panic!("{got:?}, expected {expected:?}"),
        }
    }
    assert!(wanted_images(None, &[]).is_err_and(|e| e.message.contains("at least one image")));
    assert!(wanted_images(None, &[image("api=x")]).is_ok());
}

#[test]
fn provenance_is_what_ci_says_and_what_is_given() {
    let now = "2026-01-31T12:00:05.1239Z".parse().expect("a time");
    let github = |name: &str| match name {
        "GITHUB_SHA" => Some("abc".to_owned()),
        "GITHUB_REPOSITORY" => Some("acme/app".to_owned()),
        "GITHUB_SERVER_URL" => Some("https://github.example".to_owned()),
        _ => None,
    };
    let given = [("org.opencontainers.image.revision".to_owned(), "def".to_owned())];
    let expected = [
        ("org.opencontainers.image.created", "2026-01-31T12:00:05.123Z"),
        ("org.opencontainers.image.revision", "def"),
        ("org.opencontainers.image.source", "https://github.example/acme/app"),
    ];
    assert_eq!(
        provenance(now, github, &given),
        expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect()
    );
    assert_eq!(provenance(now, |_| None, &[]).len(), 1);
}
