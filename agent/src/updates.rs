//! What the file says about restarting and replacing a service, in the agent's terms. Pure. Compose ignores most of these keys;
//! here they mean what the Deploy Specification says.

use std::time::Duration;

use crate::model::{Service, Text};
use crate::on_rotate::{self, OnRotate};
use crate::reading::Reading;
use crate::refusal::Rule;
use crate::spec::{Order, RestartCondition, RestartPolicy, Run};
use crate::unclean::{self, Unclean};

/// How long a new container must stay well, where the file does not say.
const MONITOR: Duration = Duration::from_secs(10);
/// How many replicas are replaced at once, where the file does not say: as in Swarm, the others go on serving.
const PARALLELISM: u32 = 1;
/// Docker's grace period, where the file does not say.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// The first delay before a restart, where the file does not say.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// How long a start must have gone well to forget the failures before, where the file does not say.
const RESTART_WINDOW: Duration = Duration::from_mins(10);

/// How a service is replaced, restarted and run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of `spec::ServiceSpec`, where they are told")]
pub struct Updates {
    pub replicas: u32,
    pub order: Order,
    pub parallelism: u32,
    pub delay: Duration,
    pub monitor: Duration,
    pub pause_on_failure: bool,
    pub stop_grace: Duration,
    pub restart: RestartPolicy,
    pub run: Run,
    /// Whether `x-landfall.run` stands in the file: then it is a one-shot even if nobody waits for it.
    pub run_is_written: bool,
    pub rollback_hold: bool,
    pub on_rotate: OnRotate,
    pub unclean: Option<Unclean>,
}

/// Reads them from a service.
pub fn read(service: &Service, reading: &mut Reading<'_>) -> Updates {
    let deploy = service.deploy.clone().unwrap_or_default();
    let replicas = deploy.replicas.as_ref().or(service.scale.as_ref());
    let replicas = reading.number("deploy.replicas", replicas).unwrap_or(1);
    let update = deploy.update_config.unwrap_or_default();
    let order = match update.order.as_deref() {
        None | Some("stop-first") => Order::StopFirst,
        Some("start-first") => Order::StartFirst,
        Some(other) => {
            reading.problem(Rule::BadValue, "deploy.update_config.order", format!("`{other}`"));
            Order::StopFirst
        }
    };
    let parallelism = reading.number("deploy.update_config.parallelism", update.parallelism.as_ref());
    let ratio = update.max_failure_ratio.as_ref().and_then(|ratio| ratio.parse::<f64>().ok());
    if ratio.is_some_and(|ratio| ratio > 0.0) {
        let what = "a share of failures that is taken for success";
        reading.problem(Rule::NotSupported, "deploy.update_config.max_failure_ratio", what);
    }
    let pause_on_failure = match update.failure_action.as_deref() {
        None | Some("rollback") => false,
        Some("pause") => true,
        Some(other) => {
            reading.problem(Rule::FailureAction, "deploy.update_config.failure_action", format!("`{other}`"));
            false
        }
    };
    let monitor = reading.duration("deploy.update_config.monitor", update.monitor.as_ref());
    Updates {
        replicas,
        order,
        parallelism: parallelism.unwrap_or(PARALLELISM),
        delay: reading.duration("deploy.update_config.delay", update.delay.as_ref()).unwrap_or_default(),
        monitor: monitor.filter(|monitor| !monitor.is_zero()).unwrap_or(MONITOR),
        pause_on_failure,
        stop_grace: reading.duration("stop_grace_period", service.stop_grace_period.as_ref()).unwrap_or(STOP_GRACE),
        restart: restart(service, reading),
        run: run(service.landfall.run.as_ref(), reading),
        run_is_written: service.landfall.run.is_some(),
        rollback_hold: rollback_hold(service.landfall.rollback.as_ref(), reading),
        on_rotate: on_rotate::read(service, reading),
        unclean: unclean::read(service, replicas, reading),
    }
}

fn restart(service: &Service, reading: &mut Reading<'_>) -> RestartPolicy {
    let mut policy = RestartPolicy {
        condition: RestartCondition::Any,
        delay: RESTART_DELAY,
        max_attempts: None,
        window: RESTART_WINDOW,
    };
    if let Some(word) = service.restart.as_deref() {
        match word.split_once(':').map_or((word, None), |(word, most)| (word, Some(most))) {
            ("no", None) => policy.condition = RestartCondition::None,
            ("always" | "unless-stopped" | "", None) => {}
            ("on-failure", most) => {
                policy.condition = RestartCondition::OnFailure;
                policy.max_attempts = reading.number("restart", most.map(Text::from).as_ref());
            }
            _ => reading.problem(Rule::Restart, "restart", format!("`{word}`")),
        }
    }
    // As in the Specification: where both are written, this one holds.
    let Some(written) = service.deploy.as_ref().and_then(|deploy| deploy.restart_policy.as_ref()) else {
        return policy;
    };
    policy.condition = match written.condition.as_deref() {
        None | Some("any") => RestartCondition::Any,
        Some("on-failure") => RestartCondition::OnFailure,
        Some("none") => RestartCondition::None,
        Some(other) => {
            let what = format!("`{other}` is not `any`, `on-failure` or `none`");
            reading.problem(Rule::BadValue, "deploy.restart_policy.condition", what);
            RestartCondition::Any
        }
    };
    policy.max_attempts = reading.number("deploy.restart_policy.max_attempts", written.max_attempts.as_ref());
    if let Some(delay) = reading.duration("deploy.restart_policy.delay", written.delay.as_ref()) {
        policy.delay = delay;
    }
    let window = reading.duration("deploy.restart_policy.window", written.window.as_ref());
    if let Some(window) = window.filter(|window| !window.is_zero()) {
        policy.window = window;
    }
    policy
}

fn run(word: Option<&Text>, reading: &mut Reading<'_>) -> Run {
    match word.map(|word| &**word) {
        None | Some("when-changed") => Run::WhenChanged,
        Some("every-deploy") => Run::EveryDeploy,
        Some("every-start") => Run::EveryStart,
        Some(other) => {
            let what = format!("`{other}` is not `when-changed`, `every-deploy` or `every-start`");
            reading.problem(Rule::BadValue, "x-landfall.run", what);
            Run::WhenChanged
        }
    }
}

fn rollback_hold(word: Option<&Text>, reading: &mut Reading<'_>) -> bool {
    match word.map(|word| &**word) {
        None => false,
        Some("hold") => true,
        Some(other) => {
            reading.problem(Rule::BadValue, "x-landfall.rollback", format!("`{other}` is not `hold`"));
            false
        }
    }
}
