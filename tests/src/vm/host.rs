//! Settings of the machine itself, and when they are in force.

use anyhow::{Result, ensure};
use landfall_core::config::Settings;
use serde_json::{Value, json};

use super::{SOON, Vm};
use crate::wait::eventually;

impl Vm {
    /// Writes landfall.yaml with what the machine allows and keeps for itself, and waits until the agent has it; `vars` are more variables.
    pub fn configure_host(&self, host: &Value, vars: &[(&str, String)]) -> Result<()> {
        let mut app = self.app_settings();
        for (name, value) in vars {
            app["vars"][*name] = json!(value);
        }
        self.write_settings(&json!({ "host": host, "apps": { self.app.as_str(): app } }).to_string())?;
        let written = Settings::load(&self.layout())?;
        eventually(SOON, "the agent has the settings", || {
            let kept: Settings = serde_json::from_slice(&std::fs::read(self.layout().last_settings())?)?;
            ensure!(kept == written, "{kept:?}");
            Ok(())
        })
    }
}
