//! A certificate authority for the life of one sandbox, and what a vault shows of it: the right certificate, or one of those
//! that no client may take. No key is ever written to a file.

use std::sync::Arc;

use anyhow::Result;
use jiff::tz::TimeZone;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

/// How long a vault shows the same certificate; Azure's are about as old.
const DAYS: i64 = 180;

/// What a vault shows to its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certificate {
    /// For its own names.
    #[default]
    Right,
    /// For another host.
    OtherName,
    /// For its own names, but its time is over.
    Expired,
    /// For its own names, by an authority that nobody knows.
    UnknownAuthority,
}

/// The authority.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Landfall sandbox");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// What clients are to trust.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// What a vault speaks TLS with: under its name in Azure, and on loopback.
    pub fn server(&self, vault: &str, certificate: Certificate) -> Result<Arc<ServerConfig>> {
        let own = vec![format!("{vault}.vault.azure.net"), "localhost".to_owned(), "127.0.0.1".to_owned()];
        let names = match certificate {
            Certificate::Right | Certificate::Expired | Certificate::UnknownAuthority => own,
            Certificate::OtherName => vec!["other.example".to_owned()],
        };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, vault);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Python 3.13 and later insist on it.
        params.use_authority_key_identifier_extension = true;
        let [(year, month, day), end] = [date(-1)?, date(DAYS)?];
        (params.not_before, params.not_after) = (date_time_ymd(year, month, day), date_time_ymd(end.0, end.1, end.2));
        let key = KeyPair::generate()?;
        let signed = match certificate {
            Certificate::Right | Certificate::OtherName => params.signed_by(&key, &self.0)?,
            Certificate::UnknownAuthority => params.signed_by(&key, &Self::new()?.0)?,
            Certificate::Expired => {
                (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
                params.signed_by(&key, &self.0)?
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![signed.der().clone()], key)?;
        Ok(Arc::new(config))
    }
}

/// Year, month and day, so many days from today.
fn date(days: i64) -> Result<(i32, u8, u8)> {
    let date = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days)).to_zoned(TimeZone::UTC).date();
    Ok((i32::from(date.year()), u8::try_from(date.month())?, u8::try_from(date.day())?))
}
