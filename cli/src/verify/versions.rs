//! Are the Engine and Compose new enough? What is too old for Compose is the agent's own word.

use landfall_agent::compose_plugin::{ComposePlugin, PluginError};
use landfall_agent::engine::door::{OLDEST_ENGINE, numbers};

use super::finding::{Finding, Subject};
use crate::docker::{EngineFacts, NoEngine};
use crate::failure::chain;

/// The Engine.
pub fn engine(facts: &Result<EngineFacts, NoEngine>) -> Finding {
    let (major, minor) = OLDEST_ENGINE;
    let subject = Subject::new("engine", format!("the Docker Engine is {major}.{minor} or newer"));
    match facts {
        Ok(facts) => match numbers(&facts.version) {
            Some(version) if version >= OLDEST_ENGINE => subject.pass(&facts.version),
            Some(_) => subject.fail(&facts.version, "upgrade it: https://docs.docker.com/engine/install/"),
            None => subject.skip(format!("its version `{}` is no number", facts.version)),
        },
        Err(NoEngine::Forbidden(why)) => subject.skip(why),
        Err(NoEngine::Silent(why)) => {
            subject.fail(why, "see `systemctl status docker`; without Docker: https://docs.docker.com/engine/install/")
        }
    }
}

/// The Compose plugin; `found` is its version.
pub fn compose(found: Result<String, PluginError>) -> Finding {
    let subject = Subject::new("compose", "Docker Compose is 2.26 or newer");
    match found {
        Ok(version) => subject.pass(version),
        Err(error @ (PluginError::NotFound { .. } | PluginError::TooOld { .. } | PluginError::Strange { .. })) => {
            subject.fail(error.to_string(), "install or upgrade `docker-compose-plugin`")
        }
        Err(error @ PluginError::Run(_)) => subject.skip(chain(&error)),
    }
}

/// Its version, as the agent finds it.
pub async fn look() -> Result<String, PluginError> {
    ComposePlugin::find(None).await.map(|plugin| plugin.version().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn an_engine_is_judged_by_its_first_two_numbers() {
        for (version, grade) in [
            ("26.1.5+dfsg1", Grade::Pass),
            ("26.1", Grade::Pass),
            ("29.0.0-rc.1", Grade::Pass),
            ("26.0.9", Grade::Fail),
            ("20.10.24+dfsg1", Grade::Fail),
            ("dev", Grade::Skip),
            ("", Grade::Skip),
        ] {
            let facts = EngineFacts { version: version.to_owned(), ..EngineFacts::default() };
            assert_eq!(engine(&Ok(facts)).grade, grade, "{version}");
        }
        assert_eq!(engine(&Err(NoEngine::Silent("x".to_owned()))).grade, Grade::Fail);
        assert_eq!(engine(&Err(NoEngine::Forbidden("x".to_owned()))).grade, Grade::Skip);
    }

    #[test]
    fn compose_is_judged_by_the_agents_own_finder() {
        assert_eq!(compose(Ok("2.26.1-4".to_owned())).grade, Grade::Pass);
        let old = PluginError::TooOld { version: "2.20.0".to_owned(), binary: "/x".into() };
        assert!(old.to_string().contains("2.26 or newer"), "the number of the line is the agent's: {old}");
        assert_eq!(compose(Err(old)).grade, Grade::Fail);
        assert_eq!(compose(Err(PluginError::NotFound { looked: Vec::new() })).grade, Grade::Fail);
    }
}
