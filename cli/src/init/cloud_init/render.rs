//! User-data as text: what is the same for every machine (cloud-init/user-data.yaml, as it lies there), then what the role adds. All that
//! comes from the values is written by the YAML library, which quotes it for readers of YAML 1.1 too, as cloud-init is one. Pure.

use serde::Serialize;
use serde_saphyr::LitString;
use serde_saphyr::ser_error::Error;

use super::landfall_yaml::Landfall;
use super::values::Role;

/// It ends with the list of files, to which the role's are added.
const COMMON: &str = include_str!("../../../../cloud-init/user-data.yaml");
/// The admins' groups: they read logs, and give orders to the agent.
const GROUPS: [&str; 2] = ["adm", "landfall-operators"];

#[derive(Serialize)]
struct File {
    path: &'static str,
    owner: &'static str,
    permissions: &'static str,
    content: LitString,
}

#[derive(Serialize)]
struct Rest {
    users: Vec<User>,
}

#[derive(Serialize)]
struct User {
    name: String,
    lock_passwd: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<&'static str>,
    // Without a password to ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    sudo: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh_authorized_keys: Vec<String>,
}

/// landfall.yaml.
pub fn landfall_yaml(name: &str, landfall: &Landfall) -> Result<String, Error> {
    let body = yaml(landfall)?;
    Ok(format!(
        "\
# Role `{name}`, by `landfall init --cloud-init {name}`; written once, when this machine was made. An edit is read within seconds.
# No secret belongs in here: names of secrets do.
{body}"
    ))
}

/// The whole of it, with that landfall.yaml.
pub fn user_data(role: &Role, landfall_yaml: &str) -> Result<String, Error> {
    let file = |path: &'static str, content: &str| File {
        path,
        owner: "root:root",
        permissions: "0644",
        content: LitString(content.to_owned()),
    };
    let mut files = vec![file("/etc/landfall/landfall.yaml", landfall_yaml)];
    files.extend(role.alloy.iter().map(|variables| file("/etc/landfall/alloy.env", variables)));
    let admin = |(name, keys): (&String, &Vec<String>)| User {
        name: name.clone(),
        lock_passwd: true,
        groups: GROUPS.to_vec(),
        shell: Some("/bin/bash"),
        sudo: Some("ALL=(ALL) NOPASSWD:ALL"),
        ssh_authorized_keys: keys.clone(),
    };
    let root = User {
        name: "root".to_owned(),
        lock_passwd: true,
        groups: Vec::new(),
        shell: None,
        sudo: None,
        ssh_authorized_keys: Vec::new(),
    };
    let rest = Rest { users: std::iter::once(root).chain(role.admins.iter().map(admin)).collect() };
    Ok(format!("{COMMON}{}\n{}", yaml(&files)?, yaml(&rest)?))
}

fn yaml<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_saphyr::to_string_with_options(value, serde_saphyr::ser_options! { prefer_block_scalars: false })
}
