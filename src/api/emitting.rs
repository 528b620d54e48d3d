//! `POST /emit` and `POST /emit/batch`: what is answered to them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use sockring_protocol::adapter::TraceContext;

use crate::events::iso_8601;
use crate::shard::Keeping;

use super::across::{Emitted, Memory};
use super::answer::{ApiAnswer, ApiError, put};
use super::emit::{EVENT, EmitBody, KeepRules, NAMESPACE, ROOM, USER, USER_ID};
use super::fields::Fields;
use super::inquiring::{Asking, GatheredElsewhere};
use super::operations::BATCH_MAX;
use super::{Api, emit, unix_ms, words};

pub(super) async fn emit(api: &Arc<Api>, body: &[u8], trace: Option<&TraceContext>) -> Result<ApiAnswer, ApiError> {
    let fields = Fields::decode(body)?;
    let emit = decode(api, &fields, unix_ms())?;
    let delivery = emit.broadcast.delivery;
    let (wishes, mut elsewhere) = (emit.wishes, Vec::new());
    let emitted = emit_traced(api, vec![emit], &mut elsewhere, trace).await?;
    // One for each.
    let Some(emitted) = emitted.first() else { return Err(ApiError::new(503, "the server is shutting down")) };
    tell_of_nobody(&fields, emitted);
    let mut data = answer_to(api, &fields, emitted)?;
    if !wishes.are_none() {
        let asking = api.ask_sockets(wishes, &mut elsewhere);
        api.put_answers(asking, emitted.delivered, &mut data).await;
    }
    Ok(ApiAnswer::ok(data, words::emitted(*emitted, delivery)))
}

/// Each entry is emitted, or says what is wrong with it; the others do not mind.
pub(super) async fn emit_batch(
    api: &Arc<Api>,
    body: &[u8],
    trace: Option<&TraceContext>,
) -> Result<ApiAnswer, ApiError> {
    let now = unix_ms();
    let entries = Fields::decode_list(body, BATCH_MAX)?;
    let mut emits = Vec::new();
    let mut results = Vec::new();
    for fields in &entries {
        let decoded = decode(api, fields, now);
        results.push(decoded.map(|emit| {
            let wishes = emit.wishes;
            emits.push(emit);
            wishes
        }));
    }
    let mut elsewhere = Vec::new();
    let emitted = emit_traced(api, emits, &mut elsewhere, trace).await?;
    // All are asked before the first is waited for.
    let asked = results.iter().filter_map(|result| result.as_ref().ok());
    let mut asked = asked
        .map(|wishes| (!wishes.are_none()).then(|| api.ask_sockets(*wishes, &mut elsewhere)))
        .collect::<Vec<_>>()
        .into_iter();
    let mut each = emitted.iter();
    let mut answers = Vec::with_capacity(entries.len());
    for (result, fields) in results.into_iter().zip(&entries) {
        let answer = match result {
            Err(error) => Err(error),
            Ok(_) => answer_in_batch(api, fields, each.next(), asked.next().flatten()).await,
        };
        answers.push(answer);
    }
    let accepted: Vec<_> = emitted.iter().filter(|one| one.memory != Memory::AnotherEvent).copied().collect();
    let message = words::batch(&accepted, answers.len() - accepted.len());
    let data: Vec<_> = answers
        .into_iter()
        .map(|answer| match answer {
            Ok(data) => data,
            Err(error) => {
                let mut data = json!({"statusCode": error.status, "message": error.message, "errors": error.errors});
                if let (Value::Object(data), Value::Object(known)) = (&mut data, error.data) {
                    data.extend(known);
                }
                data
            }
        })
        .collect();
    Ok(ApiAnswer::ok(data, &message))
}

/// Emits several within a span of their own, where the request has one.
async fn emit_traced(
    api: &Arc<Api>,
    mut emits: Vec<EmitBody>,
    elsewhere: &mut GatheredElsewhere,
    trace: Option<&TraceContext>,
) -> Result<Vec<Emitted>, ApiError> {
    let span = api.begin_emit(trace, emits.iter_mut().map(|emit| &mut emit.broadcast));
    let emitted = api.emit_each(emits, elsewhere).await;
    api.end_emit(span, emitted.as_deref().ok());
    emitted
}

/// The answer about one of several emits.
async fn answer_in_batch(
    api: &Api,
    fields: &Fields<'_>,
    emitted: Option<&Emitted>,
    asking: Option<Asking>,
) -> Result<Value, ApiError> {
    let Some(emitted) = emitted else { return Ok(Value::Null) };
    tell_of_nobody(fields, emitted);
    let mut data = answer_to(api, fields, emitted)?;
    if let Some(asking) = asking {
        api.put_answers(asking, emitted.delivered, &mut data).await;
    }
    Ok(data)
}

fn decode(api: &Api, fields: &Fields<'_>, now_unix_ms: u64) -> Result<EmitBody, ApiError> {
    let rules = KeepRules { default_s: api.settings.kept_default_s, ttl_max_s: api.settings.kept_ttl_max_s };
    let mut emit = emit::decode(fields, &api.server, rules, now_unix_ms)?;
    emit.wishes.number = api.inquiries.fetch_add(1, Ordering::Relaxed);
    emit::check_namespace(fields, &api.engine.namespaces, &emit)?;
    Ok(emit)
}

/// The line of an emit that nobody here has got: whose user is not connected, or whose names are others.
fn tell_of_nobody(fields: &Fields<'_>, emitted: &Emitted) {
    if emitted.delivered > 0 || !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let text = |field| fields.text(field).ok().flatten();
    tracing::debug!(
        event = text(&EVENT).as_deref(),
        user = fields.either_id(&USER, &USER_ID).ok().flatten().as_deref(),
        room = text(&ROOM).as_deref(),
        namespace = text(&NAMESPACE).as_deref(),
        published = emitted.published,
        kept = matches!(emitted.keeping, Some((Keeping::Kept | Keeping::KeptByBus, _))),
        "an emit was queued for nobody here"
    );
}

/// What came of one emit.
fn answer_to(api: &Api, fields: &Fields<'_>, emitted: &Emitted) -> Result<Value, ApiError> {
    let Emitted { delivered, published, memory, keeping } = *emitted;
    let mut data = json!({"delivered": delivered, "published": published});
    match memory {
        Memory::Nothing => {}
        Memory::New(id) | Memory::Repeated(id) => {
            put(&mut data, "id", json!(id.text()));
            if fields.has("idempotencyKey") {
                put(&mut data, "duplicate", json!(matches!(memory, Memory::Repeated(_))));
            }
        }
        // Of several users it may be new to some.
        Memory::AnotherEvent => {
            return Err(ApiError { data, ..fields.refuse("idempotencyKey", "was used for another event") });
        }
    }
    if let Some((kept, expires_unix_ms)) = keeping {
        let (kept, reason) = match kept {
            Keeping::KeptByBus => (json!("redis"), None),
            Keeping::Kept => (json!(api.settings.kept_in), None),
            Keeping::UserFull => (json!(false), Some("user_full")),
            Keeping::MemoryFull => (json!(false), Some("memory_full")),
        };
        put(&mut data, "kept", kept);
        if let Some(reason) = reason {
            put(&mut data, "keptReason", json!(reason));
        }
        put(&mut data, "expiresAt", json!(iso_8601(expires_unix_ms)));
    }
    Ok(data)
}
