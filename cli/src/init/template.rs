//! A first landfall.yaml as text: each key with its words. What is not said is commented out, with its default or an example, and without
//! a space behind the `#`, so that to take the `#` away is all there is to do. Pure; whether it is valid is our reader's word.

use landfall_core::config::Channel;
use landfall_core::ids::AppName;

const HEAD: &str = "\
# What this machine runs, what it allows, and where its secrets are.
#
# A change is read within seconds; what has a mistake changes nothing, and `landfall status` says where.
# `landfall check --config /` says it before. Files landfall.d/*.yaml are laid over this one, by name.
# No secret belongs in here. A line whose `#` has no space behind it is a setting: take the `#` away.

";

const REGISTRY_HEAD: &str = "\
# A registry that wants to know who asks: its password or token from the vault, or
# `credential: /a/file` with one line `user:password`.
";

const HOST: &str = "\
# What this machine keeps for itself and what it allows. No release can loosen it.
#host:
  # Memory that no app may be promised, for the system and these daemons; and how much of each disk stays free: no
  # image is pulled beyond it.
  #reserve: { memory: 512M, disk: 10% }
  # Refuse a service that has no memory cap.
  #require_caps: true
  # Paths of this machine that an app may bind.
  #allow_binds: []
  # `loopback`: ports are published on 127.0.0.1 only, as behind a tunnel. Or `any`.
  #publish: any
";

/// The file. Vaults are `(name, URL)`.
pub fn text(app: Option<(&AppName, &Channel)>, vaults: &[(String, String)]) -> String {
    let mut text = HEAD.to_owned();
    text.push_str(&apps(app));
    text.push_str(&self::vaults(vaults));
    let registry = app.map_or("ghcr.io", |(_, channel)| &channel.registry);
    text.push_str(REGISTRY_HEAD);
    text.push_str(&format!(
        "#registries:\n  #\"{registry}\": {{ username: acme-bot, secret: registry-read-token }}\n\n"
    ));
    text.push_str(HOST);
    text
}

fn apps(app: Option<(&AppName, &Channel)>) -> String {
    // The sign of what nobody has said.
    let off = if app.is_some() { "" } else { "#" };
    let (name, channel) = match app {
        Some((name, channel)) => (name.to_string(), channel.to_string()),
        None => ("web".to_owned(), "ghcr.io/acme/deploy:prod".to_owned()),
    };
    format!(
        "\
# The apps of this machine. An app's name is that of its Compose project.
{off}apps:
  {off}{name}:
    # The tag that is followed, with its registry: what CI publishes to.
    {off}channel: \"{channel}\"
    # How often the registry is asked.
    #poll: 5s
    # `bundle`: a release brings its compose files. `pointer`, `tags`: they are on this machine, in
    # /etc/landfall/apps/{name}/.
    #source: bundle
    # Which profiles of the compose file are on here.
    #profiles: []
    # What `${{NAME}}` means in the compose file. Not for secrets.
    #vars: {{ PUBLIC_HOST: \"{name}.example.com\" }}

"
    )
}

fn vaults(vaults: &[(String, String)]) -> String {
    let off = if vaults.is_empty() { "#" } else { "" };
    let example = [("default".to_owned(), "https://kv-acme.vault.azure.net".to_owned())];
    let shown = if vaults.is_empty() { &example[..] } else { vaults };
    let mut text = format!(
        "# Where secrets are. A reference without a vault's name means `default`; `NAME/secret` means another.\n{off}vaults:\n"
    );
    for (name, url) in shown {
        text.push_str(&format!(
            "  {off}{name}:
    {off}url: \"{url}\"
    # Which managed identity of this VM asks: `system`, or `client-id:ID` of one that is assigned to it.
    #identity: system
    # Which secrets a release on this machine may name.
    #allow: [\"*\"]
    # How often new versions are looked for. One that is found is rolled out.
    #refresh: 60s
    # Seal secrets on the disk for a boot while the vault is away: `auto` where there is a TPM2, `on`, `off`.
    #cache: auto
"
        ));
    }
    text.push('\n');
    text
}
