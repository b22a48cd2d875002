//! Mistakes in the values: each is told where it is, with what would be right, and nothing is made of them.

use std::fs;

use super::{LIMIT, directory, landfall, text};

/// What is wrong in the values, and what is said of it: a place and a hint.
#[test]
fn mistakes_in_the_values_are_told_where_they_are() {
    let good = fs::read_to_string(directory().join("values.yaml")).unwrap();
    let table: &[(&str, &str, &[&str])] = &[
        ("app: web", "app: Web", &["values.yaml:5:6:", "`Web` is not a valid app name"]),
        ("app: web", "ap: web", &["values.yaml:5:1:", "unknown key `ap`; did you mean `app`?"]),
        ("app: web", "", &["missing field `app`"]),
        ("  staging:", "  Staging:", &["`Staging` is not a valid role", "lower-case"]),
        (
            "vault: https://kv-acme-staging",
            "vault: http://kv-acme-staging",
            &["values.yaml:21:12:", "expected `https://NAME.vault.azure.net`"],
        ),
        ("channel: ghcr.io/acme/deploy:staging", "channel: acme/deploy", &["values.yaml:20:14:", "registry's host"]),
        ("channel: ghcr.io/acme/deploy:staging", "chanel: x", &["values.yaml:20:5:", "did you mean `channel`?"]),
        ("channel: ghcr.io/acme/deploy:staging", "", &["missing field `channel`"]),
        ("database: container", "database: postgres", &["values.yaml:27:15:", "`postgres`", "container, external"]),
        ("profiles: [vm-edge]", "profiles: [vm edge]", &["`vm edge` is not a valid profile"]),
        ("{ PUBLIC_HOST: staging", "{ COMPOSE_FILE: staging", &["`COMPOSE_FILE`", "not for releases"]),
        ("ports: 8100-8149", "ports: 8149-8100", &["`8149-8100` is not a valid range of ports"]),
        ("pr-*", "pr-1", &["`roles.pr-preview` has `previews`", "`pr-*`"]),
        (
            "allow: [\"database-*\", \"api-*\"]\n    vars: { PUBLIC_HOST: staging",
            "allow: [\"a_b\"]\n    vars: { PUBLIC_HOST: staging",
            &["`a_b` is not a valid pattern"],
        ),
        (
            "    vault: https://kv-acme-staging.vault.azure.net\n    # Which",
            "    # Which",
            &["`roles.staging` has `allow` and no `vault`"],
        ),
        ("secret: ghcr-read-token", "secret: ghcr_read_token", &["`ghcr_read_token`", "letters, digits and `-`"]),
        ("secret: ghcr-read-token", "secret: kv2/token", &["role `staging`", "there is no vault `kv2`"]),
        ("ops: [", "Ops: [", &["`Ops` is not a valid name of an admin"]),
        ("ops: [", "root: [", &["`root` is not a valid name of an admin"]),
        ("ops: [", "operator: [", &["`operator` is not a valid name of an admin", "group that Debian"]),
        ("ops: [", "landfall-agent: [", &["`landfall-agent` is not a valid name of an admin"]),
        ("[\"ssh-ed25519", "[] # [", &["`admins.ops` has no key", "`.pub`"]),
        ("  ops:", "  #", &["values.yaml:8:7:"]),
        ("admins:\n  ops:", "admins: {}\n#", &["`admins` names nobody"]),
        ("ssh-ed25519 AAAA", "-----BEGIN OPENSSH PRIVATE KEY-----", &["this is a private key", "`.pub`"]),
        ("ssh-ed25519 AAAA", "AAAA", &["expected a public key"]),
        ("LOG_LEVEL: info", "DB: \"postgres://app:hunter2@db/app\"", &["has a secret in it", "vault"]),
        ("LOG_LEVEL: info", "KEY: \"a\\nb\"", &["one line"]),
        ("{ lun: 0 }", "{ lun: 64 }", &["`64` is not a valid LUN"]),
        ("{ lun: 0 }", "{ path: /dev/../etc }", &["is not a valid disk"]),
        ("cloudflared.service: {", "cloudflared: {", &["`cloudflared` is not a valid unit", "its whole name"]),
        ("TUNNEL_TOKEN: tunnel-token", "TUNNEL_TOKEN: tunnel_token", &["`tunnel_token`", "letters, digits and `-`"]),
        ("TUNNEL_TOKEN: tunnel-token", ".X: tunnel-token", &["`.X` is not a valid credential"]),
        ("logs: https://", "logs: http://", &["is not a valid address to push to", "`https://`"]),
        ("logs: https://", "logs: https://acme:hunter2@", &["is not a valid address to push to", "from the vault"]),
        ("user: acme", "user: \"acme\\nX=y\"", &["is not a valid user"]),
        ("roles:", "roles: {}\nrolls:", &["unknown key `rolls`; did you mean `roles`?"]),
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("values.yaml");
    let run = |role: &str| {
        let output = landfall(&["init", "--cloud-init", role, "--values", path.to_str().unwrap()]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(output.stdout.is_empty(), "{said}");
        said
    };
    let mut wrong = Vec::new();
    for (from, to, wanted) in table {
        assert!(good.contains(from), "the example has no `{from}`");
        fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let role = if wanted[0].contains("pr-preview") { "pr-preview" } else { "staging" };
        // Long lines are folded for the terminal.
        let said = run(role).split_whitespace().collect::<Vec<_>>().join(" ");
        wrong.extend(
            wanted.iter().filter(|part| !said.contains(**part)).map(|part| format!("`{to}`: no `{part}` in: {said}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    fs::write(&path, &good).unwrap();
    assert!(run("stagin").contains("there is no role `stagin`"));
    fs::write(&path, good.replace("LOG_LEVEL: info", &format!("LOG_LEVEL: {}", "x".repeat(LIMIT)))).unwrap();
    assert!(run("staging").contains("of at most 16384"));
    fs::remove_file(&path).unwrap();
    assert!(run("staging").contains("cannot read"));
}
