//! What a model may not do, whatever it was told: pure rules over its calls and its answer. The bank decides about
//! money; these keep a confused model from wasting everybody's time, and a person from believing what no result shows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::model::Call;
use crate::mcp::client::Offered;

/// Calls of one turn that are carried out.
pub(super) const CALLS_A_TURN_MAX: usize = 8;
/// Bytes of a call's arguments; the bank takes no more either.
const ARGUMENT_BYTES_MAX: usize = 16 * 1024;
/// The same call, failed so often, is not made again.
const SAME_FAILURE_MAX: u32 = 2;
/// Calls that were not carried out, until the conversation ends.
pub(super) const STOPPED_MAX: u32 = 6;
/// What an id at the bank begins with.
const IDS: [&str; 3] = ["txn_", "apr_", "case_"];

/// Why a call is not carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stopped {
    UnknownTool,
    ArgumentsNotAnObject,
    ArgumentsTooLong,
    TooManyCalls,
    RepeatedFailure,
    PersonDeclined,
}

impl Stopped {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::UnknownTool => "unknown_tool",
            Self::ArgumentsNotAnObject => "arguments_not_an_object",
            Self::ArgumentsTooLong => "arguments_too_long",
            Self::TooManyCalls => "too_many_calls",
            Self::RepeatedFailure => "repeated_failure",
            Self::PersonDeclined => "person_declined",
        }
    }

    /// What the model is told.
    pub(super) fn told(&self) -> Value {
        let message = match self {
            Self::UnknownTool => "there is no such tool; use those that were listed",
            Self::ArgumentsNotAnObject => "a tool's arguments are one JSON object",
            Self::ArgumentsTooLong => "the arguments are longer than any tool takes",
            Self::TooManyCalls => "too many calls in one turn; make the rest in the next one, if they are needed",
            Self::RepeatedFailure => "this very call has failed twice; it was not made again",
            Self::PersonDeclined => "the person does not want this call; do not repeat it",
        };
        json!({ "status": "not_called", "reason": self.name(), "message": message })
    }
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Done,
    /// Nothing happened.
    Failed,
    /// It may have happened.
    Unknown,
}

/// What a result says about its call.
pub(super) fn verdict(result: &Result<Value, Value>, reads_only: bool) -> Verdict {
    let content = match result {
        Ok(content) | Err(content) => content,
    };
    let may_have_happened = [&content["may_have_happened"], &content["reason"]["may_have_happened"]];
    let may_have_happened = may_have_happened.into_iter().find_map(Value::as_str);
    // A refusal has a name; an error that says nothing of what became of the call says that nobody knows.
    let is_lost = result.is_err() && (content["reason"] == "connection" || content["reason"].is_null());
    match (result, may_have_happened) {
        (_, Some("unknown" | "yes")) if !reads_only => Verdict::Unknown,
        (Err(_), None) if is_lost && !reads_only => Verdict::Unknown,
        (Ok(content), _) if content["status"] == "denied" => Verdict::Failed,
        (Ok(_), _) => Verdict::Done,
        (Err(_), _) => Verdict::Failed,
    }
}

/// What was called that is more than a read, as the bank answered it.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Effect {
    pub tool: String,
    /// The order's own name: its transaction_id, approval_id or idempotency_key.
    pub order: String,
    /// The bank's word, or `unknown`.
    pub status: String,
}

/// Everything that was called so far.
#[derive(Debug, Default)]
pub(super) struct Book {
    failures: BTreeMap<String, u32>,
    stopped: u32,
    effects: Vec<Effect>,
    /// Ids that results, or the task, have named.
    ids: BTreeSet<String>,
}

impl Book {
    pub(super) fn new(task: &str) -> Self {
        Self { ids: ids(task), ..Self::default() }
    }

    /// The tool and the arguments of a call that may be made; `position` in its turn.
    ///
    /// # Errors
    /// [`Stopped`]
    pub(super) fn admit<'a>(
        &self,
        call: &Call,
        position: usize,
        offered: &'a [Offered],
    ) -> Result<(&'a Offered, Map<String, Value>), Stopped> {
        if position >= CALLS_A_TURN_MAX {
            return Err(Stopped::TooManyCalls);
        }
        let tool = offered.iter().find(|tool| tool.name == call.tool).ok_or(Stopped::UnknownTool)?;
        let arguments = match &call.arguments {
            Value::Object(members) => members.clone(),
            // How some models call a tool without arguments.
            Value::Null => Map::new(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(Stopped::ArgumentsNotAnObject);
            }
        };
        if call.arguments.to_string().len() > ARGUMENT_BYTES_MAX {
            return Err(Stopped::ArgumentsTooLong);
        }
        if self.failures.get(&same(call)).is_some_and(|failures| *failures >= SAME_FAILURE_MAX) {
            return Err(Stopped::RepeatedFailure);
        }
        Ok((tool, arguments))
    }

    /// A call was not made; answers how many were not.
    pub(super) fn stopped(&mut self) -> u32 {
        self.stopped += 1;
        self.stopped
    }

    /// A call was made and ended like this.
    pub(super) fn ended(&mut self, call: &Call, reads_only: bool, result: &Result<Value, Value>) -> Verdict {
        let verdict = verdict(result, reads_only);
        let content = match result {
            Ok(content) | Err(content) => content,
        };
        self.ids.extend(ids(&content.to_string()));
        if verdict == Verdict::Failed {
            *self.failures.entry(same(call)).or_default() += 1;
        }
        if reads_only {
            return verdict;
        }
        let status = match verdict {
            Verdict::Unknown => UNKNOWN,
            Verdict::Done | Verdict::Failed => content["status"].as_str().unwrap_or("failed"),
        };
        let (tool, order) = (call.tool.clone(), order(call, content));
        let repeated = self.effects.iter_mut().find(|effect| effect.tool == tool && effect.order == order);
        match repeated {
            // A refusal of a repetition does not undo what was done before it.
            Some(effect) if verdict != Verdict::Failed || effect.status == UNKNOWN => {
                status.clone_into(&mut effect.status)
            }
            Some(_) => {}
            None => self.effects.push(Effect { tool, order, status: status.to_owned() }),
        }
        verdict
    }

    /// A call was left before its answer.
    pub(super) fn left(&mut self, call: &Call) {
        let order = order(call, &Value::Null);
        self.effects.push(Effect { tool: call.tool.clone(), order, status: UNKNOWN.to_owned() });
    }

    pub(super) fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// Orders whose outcome nobody knows.
    pub(super) fn unresolved(&self) -> Vec<&Effect> {
        self.effects.iter().filter(|effect| effect.status == UNKNOWN).collect()
    }

    /// Ids in an answer that no result has named: somebody made them up.
    pub(super) fn unsupported(&self, answer: &str) -> Vec<String> {
        ids(answer).difference(&self.ids).cloned().collect()
    }
}

const UNKNOWN: &str = "unknown";

/// A call in one text, whatever order its members came in.
fn same(call: &Call) -> String {
    let arguments = match &call.arguments {
        Value::Object(members) => members
            .iter()
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .map(|(k, v)| format!("{k:?}:{v}"))
            .collect::<Vec<_>>()
            .join(","),
        other => other.to_string(),
    };
    format!("{} {arguments}", call.tool)
}

fn order(call: &Call, content: &Value) -> String {
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let given =
        ["idempotency_key", "transaction_id", "approval_id"].iter().find_map(|name| word(&call.arguments[name]));
    given.or_else(|| word(&content["transaction_id"])).unwrap_or_else(|| "-".to_owned())
}

/// What looks like the bank's ids in a text. What is made up need not have the length of a real one.
fn ids(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let is_id = |word: &&str| {
        let rest = IDS.iter().find_map(|prefix| word.strip_prefix(prefix));
        rest.is_some_and(|rest| {
            rest.chars().all(|letter| letter.is_ascii_alphanumeric()) && rest.contains(char::is_numeric)
        })
    };
    words.filter(is_id).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered() -> Vec<Offered> {
        let tool = |name: &str, reads_only| Offered {
            name: name.to_owned(),
            description: String::new(),
            schema: json!({}),
            reads_only,
            moves_money: !reads_only,
        };
        vec![tool("get_account_balance", true), tool("execute_transfer", false)]
    }

    fn call(tool: &str, arguments: Value) -> Call {
        Call { id: "1".to_owned(), tool: tool.to_owned(), arguments }
    }

    #[test]
    fn a_call_that_no_tool_could_take_is_not_made() {
        let book = Book::default();
        let table = [
            (call("rob_bank", json!({})), 0, Some(Stopped::UnknownTool)),
            (call("execute_transfer", json!("{}")), 0, Some(Stopped::ArgumentsNotAnObject)),
            (call("execute_transfer", json!([1])), 0, Some(Stopped::ArgumentsNotAnObject)),
            (call("execute_transfer", json!({ "a": "x".repeat(20_000) })), 0, Some(Stopped::ArgumentsTooLong)),
            (call("execute_transfer", json!({})), CALLS_A_TURN_MAX, Some(Stopped::TooManyCalls)),
            (call("execute_transfer", json!({ "transaction_id": "t" })), 0, None),
            (call("get_account_balance", Value::Null), CALLS_A_TURN_MAX - 1, None),
        ];
        for (call, position, expected) in table {
            assert_eq!(book.admit(&call, position, &offered()).err(), expected, "{call:?}");
        }
    }

    #[test]
    fn the_same_call_is_made_twice_when_it_fails_and_not_a_third_time() {
        let mut book = Book::default();
        let (one, other) = (json!({ "a": 1, "b": 2 }), json!({ "b": 2, "a": 1 }));
        let denied = Ok(json!({ "status": "denied", "reason": "account_not_granted" }));
        for arguments in [&one, &other] {
            let call = call("execute_transfer", arguments.clone());
            assert!(book.admit(&call, 0, &offered()).is_ok());
            assert_eq!(book.ended(&call, false, &denied), Verdict::Failed);
        }
        let third = book.admit(&call("execute_transfer", one), 0, &offered()).err();
        assert_eq!(third, Some(Stopped::RepeatedFailure));
        assert!(book.admit(&call("execute_transfer", json!({ "a": 2 })), 0, &offered()).is_ok());
    }

    #[test]
    fn what_may_have_happened_is_unknown_until_a_repetition_says_more() {
        let lost = [
            Err(json!({ "status": "error", "reason": "store_failed", "may_have_happened": "unknown" })),
            Err(json!({ "status": "failed", "reason": { "name": "answer_lost", "may_have_happened": "unknown" } })),
            Err(json!({ "status": "failed", "reason": "connection" })),
            Ok(json!({ "status": "error", "may_have_happened": "yes" })),
        ];
        for lost in lost {
            assert_ne!(verdict(&lost, true), Verdict::Unknown, "{lost:?}");
            let mut book = Book::default();
            let order = call("execute_transfer", json!({ "transaction_id": "txn_A" }));
            assert_eq!(book.ended(&order, false, &lost), Verdict::Unknown, "{lost:?}");
            assert_eq!(book.unresolved().len(), 1);
            book.ended(&order, false, &Ok(json!({ "status": "executed", "transaction_id": "txn_A" })));
            assert_eq!((book.unresolved().len(), book.effects()[0].status.as_str()), (0, "executed"));
            book.ended(&order, false, &Ok(json!({ "status": "denied" })));
            assert_eq!(book.effects()[0].status, "executed");
        }
        let plain = Err(json!({ "status": "error", "reason": "store_failed", "may_have_happened": "no" }));
        assert_eq!(verdict(&plain, false), Verdict::Failed);
    }

    #[test]
    fn an_id_that_no_result_named_is_made_up() {
        let mut book = Book::new("look at txn_00000000000000000000000000");
        let answer = "txn_00000000000000000000000000 and (txn_01ARZ3NDEKTSV4RRFFQ69G5FAV), approved as apr_1.";
        assert_eq!(book.unsupported(answer), ["apr_1", "txn_01ARZ3NDEKTSV4RRFFQ69G5FAV"]);
        let result = Ok(json!({ "status": "approved", "transaction_id": "txn_01ARZ3NDEKTSV4RRFFQ69G5FAV" }));
        book.ended(&call("get_account_balance", json!({})), true, &result);
        assert_eq!(book.unsupported(answer), ["apr_1"]);
        assert!(book.unsupported("the txn_ids and case_ studies of the bank").is_empty());
    }
}
