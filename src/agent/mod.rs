//! An agent to try the bank with: a language model, the bank's tools, and a person who watches.
//!
//! The model speaks to the bank through the bridge and nothing else, with the rights that the agent's certificates
//! give it. What it says is a wish; what results say is the truth.

mod guard;
mod model;
mod provider_failure;
mod show;

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Stdin};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

pub use model::ModelName;
pub use show::Form;

use crate::mcp::client::{Offered, StdioClient};
use crate::ops::failure::Failure;
use guard::{Book, Stopped};
use model::{Answer, Call, Conversation, Ended, Model, Reply};
use show::Show;

/// Until a person is told that the model still thinks, and between two such words.
const SILENT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_secs(15);
/// Bytes of one result that a model is given.
const RESULT_BYTES_MAX: usize = 64 * 1024;
/// Answers that name what no result has shown, or say nothing, are sent back so often.
const SENT_BACK_MAX: u32 = 1;

/// What is to be done, by whom, and within which limits.
#[derive(Debug)]
pub struct Order {
    pub model: ModelName,
    /// A server of one's own in place of the provider's.
    pub base_url: Option<String>,
    pub task: String,
    pub turns_max: u32,
    pub asking: Asking,
    pub form: Form,
}

/// Whether a person is asked before money moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asking {
    BeforeMoneyMoves,
    Never,
}

/// Works on the task until the model is done with it.
///
/// # Errors
/// `outcome_unknown` when an order's outcome is not known at the end, whatever else went wrong; `interrupted`,
/// `turns_used_up`, `model_stuck`, `model_withheld`, `model_said_nothing`, `confirmation_needed`, and what the model's
/// provider and the bridge answer.
pub async fn work(order: &Order, bank: &StdioClient) -> Result<(), Failure> {
    let model = Model::new(&order.model, order.base_url.as_deref())?;
    let offered = bank.offered().await?;
    let mut session = Session {
        order,
        bank,
        talk: Conversation::new(&order.model, &order.task, &offered),
        offered,
        book: Book::new(&order.task),
        show: Show(order.form),
        interrupts: Interrupts::new()?,
        person: BufReader::new(tokio::io::stdin()),
    };
    let ended = session.converse(&model).await;
    session.show.effects(session.book.effects());
    let unresolved = session.book.unresolved();
    if unresolved.is_empty() {
        return ended;
    }
    let orders = unresolved.iter().map(|effect| format!("{} {}", effect.tool, effect.order)).collect::<Vec<_>>();
    let before = ended.err().map(|failure| format!(" ({})", failure.message)).unwrap_or_default();
    Err(Failure::unknown(
        "outcome_unknown",
        format!("nobody knows yet whether this was done: {}{before}", show::plain(&orders.join(", "))),
        "repeat the order with the same idempotency_key or transaction_id: what happened once does not happen again",
    ))
}

/// One conversation.
struct Session<'a> {
    order: &'a Order,
    bank: &'a StdioClient,
    offered: Vec<Offered>,
    talk: Conversation,
    book: Book,
    show: Show,
    interrupts: Interrupts,
    person: BufReader<Stdin>,
}

impl Session<'_> {
    async fn converse(&mut self, model: &Model) -> Result<(), Failure> {
        let mut sent_back = 0;
        for _ in 0..self.order.turns_max {
            let reply = match self.ask(model).await {
                // A call whose arguments are no JSON, most often: the model gets a chance to write it anew.
                Err(failure) if failure.name == provider_failure::UNREADABLE && sent_back < SENT_BACK_MAX => {
                    sent_back += 1;
                    self.show
                        .note("model_answer_unreadable", "the model's answer cannot be read; it is asked once more");
                    self.talk.said("Your last answer could not be read. A call's arguments are one JSON object.");
                    continue;
                }
                asked => asked?,
            };
            if reply.ended == Ended::Withheld {
                return Err(Failure::refused(
                    "model_withheld",
                    "the model's provider did not let it answer",
                    "put the task in other words, or use another model",
                ));
            }
            if !reply.calls.is_empty() {
                if !reply.text.trim().is_empty() {
                    self.show.said(&reply.text);
                }
                let calls = reply.calls.clone();
                self.talk.replied(reply);
                let answers = self.turn(&calls).await?;
                self.talk.answered(answers);
                continue;
            }
            let unsupported = self.book.unsupported(&reply.text);
            let is_empty = reply.text.trim().is_empty();
            if (is_empty || !unsupported.is_empty()) && sent_back < SENT_BACK_MAX {
                sent_back += 1;
                self.send_back(reply, &unsupported);
                continue;
            }
            if is_empty {
                return Err(Failure::fault(
                    "model_said_nothing",
                    "the model ended without an answer and without a call",
                    "put the task in other words, or use another model",
                ));
            }
            return self.end(&reply, &unsupported);
        }
        Err(Failure::fault(
            "turns_used_up",
            format!("the model was not done after {} turns", self.order.turns_max),
            "make the task smaller, or raise --max-turns",
        ))
    }

    fn end(&self, reply: &Reply, unsupported: &[String]) -> Result<(), Failure> {
        if reply.ended == Ended::CutOff {
            self.show.note("answer_cut_off", "the answer was cut off at the length that the provider allows");
        }
        if !unsupported.is_empty() {
            let text = format!("no result of the bank has named {}: do not rely on it", unsupported.join(", "));
            self.show.note("claim_unsupported", &text);
        }
        self.show.answer(&reply.text, unsupported);
        Ok(())
    }

    fn send_back(&mut self, reply: Reply, unsupported: &[String]) {
        let is_empty = reply.text.trim().is_empty();
        if is_empty {
            self.show.note("answer_empty", "the model said nothing; it is asked once more");
            self.talk.said("You said nothing. Go on with the task, or say how it ended.");
            return;
        }
        self.show.said(&reply.text);
        self.talk.replied(reply);
        let ids = unsupported.join(", ");
        self.show.note("claim_unsupported", &format!("no result of the bank has named {ids}; it is asked once more"));
        self.talk.said(&format!(
            "No result of a tool has named {ids}. Nothing that you write is a result. Call the tools, or say what the \
             results show."
        ));
    }

    /// Asks the model, with a word to the person now and then.
    async fn ask(&mut self, model: &Model) -> Result<Reply, Failure> {
        let begun = Instant::now();
        let name = self.order.model.to_string();
        let mut asked = std::pin::pin!(model.ask(&self.talk));
        let mut next_word = begun + SILENT;
        loop {
            tokio::select! {
                reply = &mut asked => return reply,
                () = self.interrupts.next() => return Err(interrupted()),
                () = tokio::time::sleep_until(next_word) => {
                    self.show.waiting(&name, begun.elapsed().as_secs());
                    next_word += PAUSE;
                }
            }
        }
    }

    /// Carries out a turn's calls, one after the other. Every call gets an answer.
    async fn turn(&mut self, calls: &[Call]) -> Result<Vec<Answer>, Failure> {
        let mut answers = Vec::new();
        for (position, call) in calls.iter().enumerate() {
            let content = match self.admitted(call, position).await? {
                Ok((reads_only, arguments)) => self.carry_out(call, reads_only, arguments).await?,
                Err(why) => {
                    self.show.stopped(call, &why);
                    if self.book.stopped() >= guard::STOPPED_MAX {
                        return Err(Failure::fault(
                            "model_stuck",
                            format!("the model asked for {} calls that were not made", guard::STOPPED_MAX),
                            "put the task in other words, or use another model",
                        ));
                    }
                    why.told()
                }
            };
            answers.push(Answer { id: call.id.clone(), tool: call.tool.clone(), content: told(&content) });
        }
        Ok(answers)
    }

    /// Whether a call may be made, by the rules and by the person.
    async fn admitted(&mut self, call: &Call, position: usize) -> Result<Result<(bool, Value), Stopped>, Failure> {
        let (tool, arguments) = match self.book.admit(call, position, &self.offered) {
            Ok((tool, arguments)) => (tool, Value::Object(arguments)),
            Err(why) => return Ok(Err(why)),
        };
        let reads_only = tool.reads_only;
        if tool.moves_money && self.order.asking == Asking::BeforeMoneyMoves && !self.confirmed(call).await? {
            return Ok(Err(Stopped::PersonDeclined));
        }
        Ok(Ok((reads_only, arguments)))
    }

    async fn confirmed(&mut self, call: &Call) -> Result<bool, Failure> {
        // What was typed before the question is no answer to it.
        if std::io::stdin().is_terminal() {
            let _ = rustix::termios::tcflush(std::io::stdin(), rustix::termios::QueueSelector::IFlush);
            let early = self.person.buffer().len();
            self.person.consume(early);
        }
        self.show.question(call);
        let mut line = String::new();
        let read = tokio::select! {
            read = self.person.read_line(&mut line) => read.unwrap_or(0),
            () = self.interrupts.next() => return Err(interrupted()),
        };
        if read == 0 {
            return Err(Failure::usage(
                "confirmation_needed",
                "money was to be moved, and nobody is there to be asked",
                "start it in a terminal, or with --yes",
            ));
        }
        Ok(matches!(line.trim(), "y" | "Y" | "yes"))
    }

    /// One call at the bank. An interruption waits for its answer, a second one does not.
    async fn carry_out(&mut self, call: &Call, reads_only: bool, arguments: Value) -> Result<Value, Failure> {
        self.show.call(call);
        let mut asked = std::pin::pin!(self.bank.call(&call.tool, arguments));
        let mut interruptions = 0;
        let result = loop {
            tokio::select! {
                result = &mut asked => break result,
                () = self.interrupts.next() => {
                    interruptions += 1;
                    if reads_only || interruptions > 1 {
                        if !reads_only {
                            self.book.left(call);
                        }
                        return Err(interrupted());
                    }
                    self.show.note("interrupting", "waiting for the bank's answer; interrupt again to leave it unknown");
                }
            }
        };
        self.show.result(call, &result);
        self.book.ended(call, reads_only, &result);
        if interruptions > 0 {
            return Err(interrupted());
        }
        match result {
            Err(content) if content["reason"] == "connection" => Err(Failure::fault(
                "bridge_ended",
                "the bridge to the bank ended in the middle of the conversation",
                "see what it said above, then start again",
            )),
            Ok(content) | Err(content) => Ok(content),
        }
    }
}

/// A result as the model gets it.
fn told(content: &Value) -> String {
    let text = content.to_string();
    if text.len() <= RESULT_BYTES_MAX {
        return text;
    }
    let reason = serde_json::json!({
        "status": "too_long",
        "message": "the result is too long to be shown; ask for less",
    });
    reason.to_string()
}

fn interrupted() -> Failure {
    Failure::fault("interrupted", "stopped by the person before it was done", "start it again")
}

/// Interrupts by the person: the bridge has a process group of its own and does not hear them.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn new() -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::fault("runtime_failed", error.to_string(), "check process limits");
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
