//! `units`: secrets for systemd units beside us, which fetch them with `LoadCredential=` from our socket: a tunnel's token, a log
//! shipper's key. By unit and by the credential's id: a unit has what is named for it, and nothing else.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::registries::{Reference, is_in_a_vault};
use super::values::{InvalidValue, checked};
use super::vaults::Vaults;
use super::written::keep;
use crate::secrets::{SecretReference, is_file_name};

/// The secrets of units: by unit and the credential's id.
pub type Units = BTreeMap<String, BTreeMap<String, SecretReference>>;

/// systemd says who asks in the name of its end of the connection: `\0`, up to 16 digits, `/unit/`, the unit, `/`, the id. A name
/// has 108 bytes, and systemd gives up on the whole unit where it does not fit.
const UNIT_AND_ID: usize = 107 - 1 - 16 - "/unit/".len() - 1;

/// As it is written.
pub(super) type WrittenUnits = BTreeMap<UnitName, BTreeMap<CredentialId, Reference>>;

pub(super) fn settle(written: WrittenUnits, vaults: &Vaults) -> Result<Units, String> {
    let mut units = Units::new();
    for (UnitName(unit), credentials) in written {
        for (CredentialId(id), Reference(secret)) in credentials {
            if unit.len() + id.len() > UNIT_AND_ID {
                return Err(format!(
                    "`units.{unit}.{id}` has {} letters in unit and id, of at most {UNIT_AND_ID}: systemd could not ask for it; shorten the id",
                    unit.len() + id.len()
                ));
            }
            is_in_a_vault(&secret, vaults).map_err(|problem| format!("`units.{unit}.{id}` {problem}"))?;
            units.entry(unit.clone()).or_default().insert(id, secret);
        }
    }
    Ok(units)
}

checked! {
    UnitName(String) = |t| keep(t, is_unit(t), "unit", "expected its whole name, as in `cloudflared.service`");
    CredentialId(String) = |t| keep(t, is_file_name(t), "credential", "use letters, digits, `_`, `.` and `-`, at most 128, and no `.` in front");
}

/// Whether systemd can have a unit of this name that loads credentials.
fn is_unit(text: &str) -> bool {
    let kinds = [".service", ".socket", ".mount", ".swap"];
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_' | b'.' | b'\\' | b'@');
    let name = kinds.iter().find_map(|kind| text.strip_suffix(kind));
    name.is_some_and(|name| !name.is_empty() && !name.starts_with('.')) && text.len() <= 255 && text.bytes().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_units() {
        for (name, valid) in [
            ("cloudflared.service", true),
            ("ship@eu-1.service", true),
            ("dev-disk\\x2d1.mount", true),
            ("cloudflared", false),
            (".service", false),
            ("../x.service", false),
            ("..service", false),
            ("a/b.service", false),
            ("x.timer", false),
        ] {
            assert_eq!(is_unit(name), valid, "{name}");
        }
    }
}
