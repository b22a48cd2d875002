//! Azure Key Vault, asked as a managed identity of this machine with Microsoft's client. That client keeps a token that is not taken
//! any more, repeats on its own for minutes, and does as long a Retry-After says: here each attempt asks once, and a refused token
//! makes everything that remembers it anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, RetryOptions, Transport, UserAgentOptions};
use azure_core::time::OffsetDateTime;
use azure_identity::{ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId};
use azure_security_keyvault_secrets::models::{Secret, SecretClientGetSecretOptions};
use azure_security_keyvault_secrets::{ResourceExt as _, SecretClient, SecretClientOptions};
use jiff::Timestamp;
use landfall_core::config::Identity;
use tokio::time::timeout;

use crate::door;
use crate::explain::{Asked, Refused, garbled, refused, useless};
use crate::source::{ATTEMPT, FetchError, Fetched, Fetching, Pause, Source};
use crate::value::Value;

/// Who we say we are.
const APPLICATION: &str = "landfall";
/// Key Vault's versions have 32.
const VERSION_LENGTH: usize = 64;

/// One vault.
#[derive(Debug)]
pub struct KeyVault {
    url: String,
    identity: Identity,
    identities: Arc<Identities>,
    client: Mutex<Option<Client>>,
}

/// A client with the credential that it was made with.
#[derive(Clone)]
struct Client {
    generation: u64,
    client: Arc<SecretClient>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl KeyVault {
    /// The vault at `url`; its tokens are those of `identities`.
    pub fn new(url: &str, identity: &Identity, identities: &Arc<Identities>) -> Self {
        let identities = Arc::clone(identities);
        Self { url: url.to_owned(), identity: identity.clone(), identities, client: Mutex::new(None) }
    }

    async fn get(&self, name: &str, version: Option<&str>) -> Result<Fetched, FetchError> {
        let asked = Asked { url: &self.url, name, version, identity: &self.identity };
        let client = self.client(None)?;
        match attempt(&client.client, &asked).await {
            Ok(fetched) => Ok(fetched),
            Err(Refused::Final(error)) => Err(error),
            Err(Refused::Token(_)) => {
                let client = self.client(Some(client.generation))?;
                attempt(&client.client, &asked).await.map_err(|(Refused::Token(error) | Refused::Final(error))| error)
            }
        }
    }

    /// The client, made anew where there is none, and where its credential is of the generation that was refused.
    fn client(&self, refused: Option<u64>) -> Result<Client, FetchError> {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = kept.as_ref().filter(|client| Some(client.generation) != refused) {
            return Ok(client.clone());
        }
        let made = self.identities.credential(&self.identity, refused).and_then(|(generation, credential)| {
            let options =
                SecretClientOptions { client_options: self.identities.options()?, ..SecretClientOptions::default() };
            let client = Arc::new(SecretClient::new(&self.url, credential, Some(options)).map_err(|e| e.to_string())?);
            Ok(Client { generation, client })
        });
        let client = made.map_err(|why| {
            let problem = format!("cannot set up a client for {} ({why}); next: install `ca-certificates`, or name a file in `SSL_CERT_FILE`", self.url);
            FetchError::of_vault(problem, Pause::BackOff)
        })?;
        *kept = Some(client.clone());
        Ok(client)
    }
}

impl Source for KeyVault {
    fn fetch<'a>(&'a self, name: &'a str, version: Option<&'a str>) -> Fetching<'a> {
        Box::pin(self.get(name, version))
    }
}

async fn attempt(client: &SecretClient, asked: &Asked<'_>) -> Result<Fetched, Refused> {
    let secret_version = asked.version.map(str::to_owned);
    let options = SecretClientGetSecretOptions { secret_version, ..SecretClientGetSecretOptions::default() };
    let response = match timeout(ATTEMPT, client.get_secret(asked.name, Some(options))).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(refused(&error, asked, Timestamp::now())),
        Err(_) => {
            let problem =
                format!("{} and IMDS took longer than {} s; next: check the network", asked.url, ATTEMPT.as_secs());
            return Err(Refused::Final(FetchError::of_vault(problem, Pause::BackOff)));
        }
    };
    // Its error could quote the value.
    let secret: Secret = response.into_model().map_err(|_| Refused::Final(garbled(asked)))?;
    fetched(secret, asked).ok_or_else(|| Refused::Final(useless(asked)))
}

/// What we take of an answer; none where it is not that of a vault to what was asked.
fn fetched(mut secret: Secret, asked: &Asked<'_>) -> Option<Fetched> {
    let value = Value::new(secret.value.take()?.into_bytes());
    let version = secret.resource_id().ok()?.version?;
    let is_version =
        (1..=VERSION_LENGTH).contains(&version.len()) && version.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_asked = asked.version.is_none_or(|asked| asked.eq_ignore_ascii_case(&version));
    if !is_version || !is_asked {
        return None;
    }
    let at = |time: Option<OffsetDateTime>| time.and_then(|time| Timestamp::from_second(time.unix_timestamp()).ok());
    let (not_before, expires) =
        secret.attributes.as_ref().map_or((None, None), |times| (at(times.not_before), at(times.expires)));
    Some(Fetched { value, version, not_before, expires })
}

/// With its generation.
type Credential = (u64, Arc<dyn TokenCredential>);

/// The identities of this machine: each asks IMDS for one token, which all its vaults share.
#[derive(Debug, Default)]
pub struct Identities {
    transport: Mutex<Option<Transport>>,
    credentials: Mutex<BTreeMap<String, Credential>>,
}

impl Identities {
    /// The credential of an identity and its generation: a new one where there is none or it is of the generation that was refused.
    fn credential(&self, identity: &Identity, refused: Option<u64>) -> Result<Credential, String> {
        let mut credentials = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{identity:?}");
        let before = credentials.get(&key);
        if let Some((generation, credential)) = before.filter(|(generation, _)| Some(*generation) != refused) {
            return Ok((*generation, Arc::clone(credential)));
        }
        let generation = before.map_or(0, |(generation, _)| generation + 1);
        let user_assigned_id = match identity.clone() {
            Identity::System => None,
            Identity::ClientId(id) => Some(UserAssignedId::ClientId(id)),
            Identity::ObjectId(id) => Some(UserAssignedId::ObjectId(id)),
            Identity::ResourceId(id) => Some(UserAssignedId::ResourceId(id)),
        };
        let mut options = ManagedIdentityCredentialOptions::default();
        options.user_assigned_id = user_assigned_id;
        options.client_options = self.options()?;
        let made: Arc<dyn TokenCredential> =
            ManagedIdentityCredential::new(Some(options)).map_err(|error| error.to_string())?;
        credentials.insert(key, (generation, Arc::clone(&made)));
        Ok((generation, made))
    }

    /// What all clients have in common: one HTTP client, and no repetition.
    fn options(&self) -> Result<ClientOptions, String> {
        let mut kept = self.transport.lock().unwrap_or_else(PoisonError::into_inner);
        let transport = match &*kept {
            Some(transport) => transport.clone(),
            None => kept.insert(door::open().map_err(|error| format!("{:#}", anyhow::Error::from(error)))?).clone(),
        };
        Ok(ClientOptions {
            transport: Some(transport),
            retry: RetryOptions::none(),
            user_agent: UserAgentOptions { application_id: Some(APPLICATION.to_owned()) },
            ..ClientOptions::default()
        })
    }
}
