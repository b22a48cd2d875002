//! What a person writes in landfall.yaml and landfall.d/*.yaml ([`Config`]) and what it means ([`Settings`]).
//! Parsing is strict: an unknown key is an error with its place and the nearest key. Loading only reads; what to do about
//! settings that do not load (keep the last valid ones) is each daemon's own.

mod channel;
mod data_disk;
mod error;
mod follow;
mod previews;
mod registries;
mod settings;
mod stamp;
mod units;
mod values;
mod vaults;
mod written;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use channel::{Channel, is_loopback};
pub use data_disk::{DataDisk, DevicePath, Lun};
pub use error::ConfigError;
pub use follow::SettingsFiles;
pub use previews::{PortRange, Ports, Preview, PreviewCaps, Previews, TagPattern, preview_name};
pub use registries::{Registry, RegistrySecret};
pub use settings::{App, Host, Settings, Source};
pub use stamp::Stamp;
pub use units::Units;
pub use values::{InvalidValue, parse_duration, parse_size};
pub use vaults::{CacheMode, Identity, NamePattern, Vault, VaultSource, Vaults};
pub use written::{Config, parse_written};

use crate::layout::Layout;

/// No settings file is larger.
const FILE_LIMIT: u64 = 1 << 20;

impl Settings {
    /// Reads the main file and the drop-ins in file-name order.
    pub fn load(layout: &Layout) -> Result<Self, ConfigError> {
        let files = config_files(layout)?;
        let Some(first) = files.first() else {
            return Err(ConfigError::Missing { path: layout.config_file() });
        };
        let mut config = Config::default();
        for file in &files {
            config.merge(Config::parse(file, &read(file)?)?);
        }
        let settled = config.settle();
        let mut settings = settled.map_err(|message| ConfigError::Incomplete { path: first.clone(), message })?;
        settings.registries.iter_mut().for_each(|(host, registry)| registry.place(host, layout));
        Ok(settings)
    }
}

/// The files that [`Settings::load`] reads, in order; a daemon that watches for changes looks at these.
pub fn config_files(layout: &Layout) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files = Vec::new();
    let main = layout.config_file();
    if main.exists() {
        files.push(main);
    }
    let directory = layout.config_drop_ins();
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let entries = entries.map_err(|source| ConfigError::Read { path: directory, source })?;
    let mut drop_ins: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).filter(|path| is_drop_in(path)).collect();
    drop_ins.sort_unstable();
    files.extend(drop_ins);
    Ok(files)
}

fn is_drop_in(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    !hidden && path.extension().is_some_and(|extension| extension == "yaml")
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > FILE_LIMIT {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {FILE_LIMIT} bytes"))));
    }
    fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
mod tests;
