//! What is to be done in Azure so that a VM reads its secrets, as commands to paste, and what to type after that. Pure text: nothing is
//! called, and no right is asked for that is not needed.

/// The role that reads secrets and nothing else.
const ROLE: &str = "Key Vault Secrets User";

/// A name of a VM or a resource group, fit to stand between quotes in a shell.
pub fn name(text: &str) -> Result<String, String> {
    let valid = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '(' | ')');
    if (1..=90).contains(&text.chars().count()) && text.chars().all(valid) && !text.starts_with('-') {
        Ok(text.to_owned())
    } else {
        Err("expected a name as Azure has it: letters, digits, `-`, `_`, `.`".to_owned())
    }
}

/// The name in a vault's URL.
pub fn vault_name(url: &str) -> &str {
    url.trim_start_matches("https://").split(['.', ':', '/']).next().unwrap_or_default()
}

/// All of it, for a shell: words are comments.
pub fn steps(vm: &str, group: &str, vaults: &[String], has_app: bool) -> String {
    let mut text = String::new();
    if !vaults.is_empty() {
        text.push_str("# In Azure, once, as somebody who may assign roles.\n");
        text.push_str("# The VM gets an identity of its own:\n");
        text.push_str(&format!("az vm identity assign --resource-group \"{group}\" --name \"{vm}\"\n"));
    }
    for url in vaults {
        let vault = vault_name(url);
        text.push_str(&format!("# It may read the secrets of {vault}, and nothing else; Reader is not needed.\n"));
        text.push_str("# The vault must decide by roles, so this must print `true`:\n");
        text.push_str(&format!(
            "az keyvault show --name \"{vault}\" --query properties.enableRbacAuthorization --output tsv\n"
        ));
        text.push_str(&format!(
            "az role assignment create --role \"{ROLE}\" --assignee-principal-type ServicePrincipal \
             --assignee-object-id \"$(az vm show --resource-group \"{group}\" --name \"{vm}\" --query identity.principalId --output tsv)\" \
             --scope \"$(az keyvault show --name \"{vault}\" --query id --output tsv)\"\n"
        ));
    }
    if !vaults.is_empty() {
        text.push_str("# A new role can take some minutes until it counts.\n");
    }
    if !has_app {
        text.push_str("# Name an app in /etc/landfall/landfall.yaml, then:\n");
    }
    text.push_str("# On this machine; settings are read again within seconds:\n");
    text.push_str("landfall check --config /\n");
    if has_app {
        text.push_str("landfall status\n");
    }
    if !vaults.is_empty() && has_app {
        text.push_str("landfall secrets\n");
    }
    text.push_str("sudo landfall verify\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        for good in ["vm-1", "rg_acme.prod", "rg(old)"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", "-x", "a b", "a\"b", "$(x)", "a`b", "a\\", "a\nb", &"x".repeat(91)] {
            assert!(name(bad).is_err(), "{bad}");
        }
        assert_eq!(vault_name("https://kv-acme.vault.azure.net"), "kv-acme");
        assert_eq!(vault_name("https://localhost:8443"), "localhost");
    }
}
