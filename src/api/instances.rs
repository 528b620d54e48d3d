//! The numbers of all instances, this one first: the others are asked for theirs over Redis.

use serde_json::{Value, json};

use crate::cluster::{Gathered, InstanceNumbers};
use crate::events::iso_8601;

use super::answer::{ApiAnswer, ApiError, put};
use super::{Api, unix_ms};

/// `GET /instances`.
pub(super) async fn list(api: &Api) -> Result<ApiAnswer, ApiError> {
    let elsewhere = async {
        match &api.cluster {
            None => None,
            Some(cluster) => Some(cluster.numbers().await),
        }
    };
    let (shards, elsewhere) = tokio::join!(api.stats(), elsewhere);
    let here = InstanceNumbers::new(&api.name, api.started.elapsed().as_secs(), &shards?);
    let id = api.cluster.as_deref().map(|cluster| cluster.id().into());
    let mut instances = vec![describe(&InstanceNumbers { id: id.unwrap_or_default(), ..here })];
    let mut unknown = None;
    if let Some(Gathered { mut answers, missing, silent }) = elsewhere {
        answers.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        instances.extend(answers.iter().map(describe));
        unknown = Some((missing, silent));
    }
    let mut data = json!({"instances": instances, "timestamp": iso_8601(unix_ms())});
    let mut message = "Instances";
    if let Some((missing, silent)) = unknown {
        put(&mut data, "missing", json!(missing));
        if missing != Some(0) {
            put(&mut data, "missingInstances", json!(silent));
            message = "Not all servers have answered; Node servers do not";
        }
    }
    Ok(ApiAnswer::ok(data, message))
}

fn describe(numbers: &InstanceNumbers) -> Value {
    let mut value = json!(numbers);
    if numbers.id.is_empty() {
        put(&mut value, "id", Value::Null);
    }
    value
}
