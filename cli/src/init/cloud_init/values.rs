//! What user-data is made of, as a person writes it ([`Values`]), and what that means for one role ([`Role`]). A value that ends up in
//! landfall.yaml is judged by the daemons' own reader here already, so that a mistake has its place in the file that the person wrote.

use std::collections::BTreeMap;
use std::path::Path;

use landfall_core::config::{Channel, ConfigError, DataDisk, TagPattern, parse_written};
use landfall_core::ids::AppName;
use serde::Deserialize;

use super::landfall_yaml::{App, Caps, Host, Landfall, Registry, Vault};
use super::words::{
    AdminName, Allowed, CredentialId, DEFAULT_VAULT, Memory, PlainText, Ports, Profile, PublicKey, PushUrl,
    RegistryHost, RemoteUser, RoleName, SecretName, TimeToLive, UnitName, UnitSecret, Username, Variable, VaultUrl,
};

/// The Compose profile of the services that are the database.
const DATABASE_PROFILE: &str = "database";
/// The variable with the name of the secret that has the database's address.
const DATABASE_VARIABLE: &str = "DATABASE_SECRET";

/// The values file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Values {
    app: AppName,
    admins: BTreeMap<AdminName, Vec<PublicKey>>,
    #[serde(default)]
    registries: BTreeMap<RegistryHost, WrittenRegistry>,
    #[serde(default)]
    vars: BTreeMap<Variable, PlainText>,
    roles: BTreeMap<RoleName, WrittenRole>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRegistry {
    username: Username,
    secret: SecretName,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRole {
    channel: Followed,
    vault: Option<VaultUrl>,
    allow: Option<Vec<Allowed>>,
    #[serde(default)]
    profiles: Vec<Profile>,
    #[serde(default)]
    vars: BTreeMap<Variable, PlainText>,
    database: Option<Database>,
    previews: Option<WrittenPreviews>,
    data_disk: Option<DataDisk>,
    #[serde(default)]
    units: BTreeMap<UnitName, BTreeMap<CredentialId, UnitSecret>>,
    alloy: Option<Alloy>,
}

/// Where Alloy sends journal and metrics.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alloy {
    metrics: PushUrl,
    logs: PushUrl,
    user: RemoteUser,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPreviews {
    ports: Option<Ports>,
    memory: Option<Memory>,
    ttl: Option<TimeToLive>,
}

/// Where the database is: the one word that switches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Database {
    Container,
    External,
}

/// What one role's machines are.
#[derive(Debug)]
pub struct Role {
    /// Who logs in, with the lines of their public keys.
    pub admins: BTreeMap<String, Vec<String>>,
    /// The variables of Alloy's unit, if it is to send anything.
    pub alloy: Option<String>,
    /// What landfall.yaml says.
    pub landfall: Landfall,
}

impl Values {
    /// Reads the file's text. `path` is only for the error.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        parse_written(path, text)
    }

    /// What they mean for a role. The error says what is wrong or missing.
    pub fn role(self, name: &str) -> Result<Role, String> {
        let known: Vec<String> = self.roles.keys().map(|role| format!("`{}`", role.0)).collect();
        let written = self.roles.into_iter().find(|(role, _)| role.0 == name).map(|(_, written)| written);
        let Some(written) = written else {
            return Err(format!("there is no role `{name}`; there is {}", known.join(", ")));
        };
        if let Some((nobody, _)) = self.admins.iter().find(|(_, keys)| keys.is_empty()) {
            return Err(format!(
                "`admins.{}` has no key, so nobody could log in as it; add the line of a `.pub` file",
                nobody.0
            ));
        }
        if self.admins.is_empty() {
            return Err(
                "`admins` names nobody, so nobody could log in; add a name with the line of a `.pub` file".to_owned()
            );
        }
        let admins = self.admins.into_iter().map(|(name, keys)| (name.0, keys.into_iter().map(|key| key.0).collect()));
        let registries = self
            .registries
            .into_iter()
            .map(|(host, registry)| (host.0, Registry { username: registry.username.0, secret: registry.secret.0 }));
        Ok(Role {
            admins: admins.collect(),
            alloy: written.alloy.as_ref().map(Alloy::environment),
            landfall: written.landfall(name, &self.app, self.vars, registries.collect())?,
        })
    }
}

impl WrittenRole {
    fn landfall(
        self,
        name: &str,
        app: &AppName,
        common: BTreeMap<Variable, PlainText>,
        registries: BTreeMap<String, Registry>,
    ) -> Result<Landfall, String> {
        let mut profiles: Vec<String> = self.profiles.into_iter().map(|profile| profile.0).collect();
        let mut vars = BTreeMap::new();
        if let Some(database) = self.database {
            vars.insert(DATABASE_VARIABLE.to_owned(), database.secret().to_owned());
            match database {
                Database::Container => profiles.push(DATABASE_PROFILE.to_owned()),
                Database::External if profiles.iter().any(|profile| profile == DATABASE_PROFILE) => {
                    return Err(format!(
                        "`roles.{name}` has an external database and the profile `{DATABASE_PROFILE}`: keep the one that it is"
                    ));
                }
                Database::External => {}
            }
        }
        vars.extend(common.into_iter().chain(self.vars).map(|(name, value)| (name.0, value.0)));
        let vault = match (self.vault, self.allow) {
            (None, Some(_)) => return Err(format!("`roles.{name}` has `allow` and no `vault`; add its `vault`")),
            (None, None) => None,
            (Some(url), allow) => {
                let allow = allow.map(|allow| allow.into_iter().map(|one| one.0).collect());
                Some((DEFAULT_VAULT.to_owned(), Vault { url: url.0, allow }))
            }
        };
        let (channel, previews) = match (self.channel, self.previews) {
            (Followed::One(channel), None) => (channel.to_string(), None),
            (Followed::Each(pattern), previews) => (pattern.to_string(), Some(previews.unwrap_or_default())),
            (Followed::One(_), Some(_)) => {
                return Err(format!(
                    "`roles.{name}` has `previews`, and its `channel` is one tag; write a `*` into it, as in `pr-*`"
                ));
            }
        };
        let mut app_settings = App { channel, profiles, vars, ..App::default() };
        let host = self.data_disk.map(|data_disk| Host { data_disk });
        let units = self.units.into_iter().map(|(unit, credentials)| {
            (unit.0, credentials.into_iter().map(|(id, secret)| (id.0, secret.0)).collect())
        });
        let mut landfall = Landfall {
            host,
            vaults: vault.into_iter().collect(),
            registries,
            units: units.collect(),
            ..Landfall::default()
        };
        if let Some(previews) = previews {
            app_settings.ports = previews.ports.map(|ports| ports.0);
            app_settings.caps = previews.memory.map(|memory| Caps { memory: memory.0 });
            app_settings.ttl = previews.ttl.map(|ttl| ttl.0);
            landfall.previews.insert(app.to_string(), app_settings);
        } else {
            landfall.apps.insert(app.to_string(), app_settings);
        }
        Ok(landfall)
    }
}

impl Alloy {
    /// As systemd reads it; nothing that would have to be quoted is let in.
    fn environment(&self) -> String {
        format!("METRICS_URL={}\nLOGS_URL={}\nREMOTE_USER={}\n", self.metrics.0, self.logs.0, self.user.0)
    }
}

impl Database {
    /// The name, in the vault, of the secret with its address.
    fn secret(self) -> &'static str {
        match self {
            Self::Container => "database-url-container",
            Self::External => "database-url-external",
        }
    }
}

/// One tag, or one app for each that matches.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
enum Followed {
    One(Channel),
    Each(TagPattern),
}

impl TryFrom<String> for Followed {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.contains('*') {
            text.parse().map(Self::Each).map_err(|error| error.to_string())
        } else {
            text.parse().map(Self::One).map_err(|error| error.to_string())
        }
    }
}
