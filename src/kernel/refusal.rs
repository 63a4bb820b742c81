//! Every way in which the rules say no to an agent's or an operator's money request.
//!
//! Names are the product's vocabulary: stable, shown to agents, written to the audit log. Names of certificate
//! refusals are in `credential`.

use serde::{Deserialize, Serialize};

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $message:literal, $next:literal;)*) => {
        /// A rule said no. Closed; one name a rule.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub enum Refusal {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Refusal {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for a reader.
            pub fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)* }
            }

            /// What the reader can do next.
            pub fn next_step(self) -> &'static str {
                match self { $(Self::$variant => $next,)* }
            }
        }
    };
}

refusals! {
    InvalidCertificate = "invalid_certificate", "the certificate pair is not acceptable", "see `countersign cert verify`";
    AgentRevoked = "agent_revoked", "the agent, its key or one of its certificates is revoked", "enrol the agent anew with a new key";
    AgentFrozen = "agent_frozen", "the agent is frozen", "ask the party that froze it";
    RiskFrozen = "risk_frozen", "the agent's calls look like an attack; it is being frozen", "ask the bank: two people thaw an agent, and `countersign monitor show` says why";
    EndorsementStatusStale = "endorsement_status_stale", "the security company's revocation list is missing or past its next update", "import a fresh CRL with `countersign crl import`";
    AccountNotGranted = "account_not_granted", "the account does not exist or its owner has not granted it to this agent", "ask the owner for a grant";
    GrantAmbiguous = "grant_ambiguous", "more than one granted account fits", "name from_account";
    VerbNotGranted = "verb_not_granted", "the grant does not cover this action", "ask the owner for a wider grant";
    ToolDenied = "tool_denied", "the role may not call this tool", "use a tool of the role";
    ToolDeniedByPolicy = "tool_denied_by_policy", "the role policy denies this tool", "use another tool of the role";
    PolicyUnreadable = "policy_unreadable", "this node of the bank cannot read the policy that is in force, so it decides nothing", "try again later; the bank sees it in `countersign doctor`";
    ConstraintViolated = "constraint_violated", "an argument is outside what the role policy permits", "keep to the limits of the role: the policy resource shows them";
    ConstraintParameterMissing = "constraint_parameter_missing", "the role policy constrains an argument that the call does not have", "name every constrained argument: the policy resource shows them";
    PolicyChangedMeanwhile = "policy_changed_meanwhile", "another version of the policy is in force than was expected", "look at it with `countersign policy diff`, then apply again";
    CurrencyMismatch = "currency_mismatch", "the currencies differ", "use the account's currency";
    CurrencyNotAllowed = "currency_not_allowed", "a transaction rule does not permit this currency here", "use a currency that the rules of this account and role name";
    OutsideHours = "outside_hours", "payments like this one are not made at this time", "try again within the hours of the rules, by the account's own clock";
    UnknownProduct = "unknown_product", "no such product at this merchant", "search again with search_products";
    PriceChanged = "price_changed", "the price is not the merchant's current offer", "search again and use the current price";
    UnauthorizedMerchant = "unauthorized_merchant", "the merchant is not on the allow-list", "choose a merchant of the allow-list";
    MerchantLooksAlike = "merchant_looks_alike", "the merchant is not on the allow-list and looks like one that is", "use the exact name of the merchant that you mean";
    PayeeNotAllowed = "payee_not_allowed", "a transaction rule does not permit transfers to this account", "choose an account that the rules name";
    MandateMissing = "mandate_missing", "a payment of this agent from this account needs a mandate of its owner", "ask the account's owner for a mandate";
    MandateNotThisAgent = "mandate_not_this_agent", "the owner's mandate is for another key of this agent", "ask the account's owner for a mandate for the new key";
    MandateRevoked = "mandate_revoked", "the owner's mandate was revoked", "ask the account's owner for a new mandate";
    MandateExpired = "mandate_expired", "the owner's mandate has ended", "ask the account's owner for a new mandate";
    MandateNotYetValid = "mandate_not_yet_valid", "the owner's mandate has not begun", "wait until it begins";
    MandatePayee = "mandate_payee", "the owner's mandate does not name this payee", "pay one of its payees";
    MandateReference = "mandate_reference", "the owner's mandate is for another reference", "give the product or the idempotency key that it names";
    MandateAmount = "mandate_amount", "the amount is outside the range of the owner's mandate", "choose an amount within it";
    MandateDates = "mandate_dates", "the owner's mandate does not let payments be executed today", "wait for a day that it names";
    MandateRecurrence = "mandate_recurrence", "the owner's mandate is used up for now", "wait for its next period, or ask for a new mandate";
    MandateBudget = "mandate_budget", "the budget of the owner's mandate would be exceeded", "lower the amount or wait for its next period";
    TooManyMandates = "too_many_mandates", "the agent has 32 mandates for this account that stand", "revoke those that are no longer wanted";
    UnknownMandate = "unknown_mandate", "no such mandate", "see `countersign mandate list`";
    GrantLimitExceeded = "grant_limit_exceeded", "the amount is above the owner's limit for this agent", "ask the owner for a higher limit";
    AboveHardCeiling = "above_hard_ceiling", "the amount is above the hard ceiling", "no approval lifts a hard ceiling";
    VelocityExceeded = "velocity_exceeded", "too many payments, or too much money, in a short time", "wait until less was paid in the time of the rule";
    InsufficientFunds = "insufficient_funds", "the available balance is too small", "lower the amount or add funds";
    AccountNotActive = "account_not_active", "the account is frozen or closed", "ask the bank";
    DestinationNotActive = "destination_not_active", "the account that would be paid is frozen or closed", "ask the bank, or choose another destination";
    AccountNotEmpty = "account_not_empty", "the account still has a balance or open holds", "empty it first";
    AccountDayLimitExceeded = "account_day_limit_exceeded", "the account's own limit for a day would be exceeded", "wait for the account's next day or lower the amount";
    HoldMissing = "hold_missing", "the funds are not held for this payment", "authorize it first";
    UnknownDestination = "unknown_destination", "the destination account does not exist", "check to_account";
    SameAccount = "same_account", "source and destination are the same account", "choose another destination";
    TooManyOpenHolds = "too_many_open_holds", "too many open authorizations", "execute or cancel some first";
    IdempotencyKeyReused = "idempotency_key_reused", "the idempotency key was used for another request", "use a fresh key for a new intent";
    UnknownTransaction = "unknown_transaction", "no such transaction of this agent", "check transaction_id";
    UnknownApproval = "unknown_approval", "no such approval", "check approval_id";
    AuthorizationMismatch = "authorization_mismatch", "the parameters are not those that were authorized", "authorize these parameters first";
    AuthorizationExpired = "authorization_expired", "the authorization has expired", "authorize again";
    AuthorizationCancelled = "authorization_cancelled", "the authorization was cancelled", "authorize again";
    AlreadyExecuted = "already_executed", "the transaction was executed already", "see get_transaction";
    ApprovalPending = "approval_pending", "a human has not decided yet", "ask get_approval_status";
    ApprovalDenied = "approval_denied", "a human said no", "do not retry";
    ApprovalExpired = "approval_expired", "nobody decided in time", "authorize again";
    AlreadyDecided = "already_decided", "the approval was decided already", "see `countersign approvals show`";
    ApprovalUnsigned = "approval_unsigned", "this approval counts only what a person's own key has signed", "give --as with the state directory of an enrolled person";
    ApprovalMismatch = "approval_mismatch", "what was signed is not what the bank asks about this approval now", "look at the approval again and sign anew";
    ApprovalSignatureInvalid = "approval_signature_invalid", "the approval is not signed by the key of the person it names", "sign with the token of the enrolled person";
    OperatorRevoked = "operator_revoked", "the person's certificate is revoked", "have another person decide";
    NotTheOwner = "not_the_owner", "the person does not own the account that pays", "the owner of the account must consent";
    AlreadySpoken = "already_spoken", "the person has spoken about this approval before", "another person must decide";
    GateNotAsked = "gate_not_asked", "nobody asks for this: the approval has no such gate", "see `countersign approvals show`";
    GateComplete = "gate_complete", "this gate has all it needs", "see `countersign approvals show` for what is still open";
    ApprovalOutOfTurn = "approval_out_of_turn", "somebody with another role comes first", "see `countersign approvals show` for the order";
    MakerIsChecker = "maker_is_checker", "nobody approves what they made", "another person must decide";
    OperatorNotPermitted = "operator_not_permitted", "the operator has no role for this", "ask someone whose role covers it";
    AlreadyExists = "already_exists", "it exists already with other content", "choose another name or remove it first";
    UnknownAccount = "unknown_account", "no such account", "see `countersign account list`";
    UnknownAgent = "unknown_agent", "no such agent, serial or key", "see `countersign cert list`";
    NotFrozen = "not_frozen", "nothing is frozen there", "see `countersign freeze --list`";
    UnknownMerchant = "unknown_merchant", "no such merchant", "add it with `countersign merchant add`";
    TextHostile = "text_hostile", "the text looks like an attempt to steer a reader, or has no letters that are seen", "correct it, or repeat with --accept-text when it is meant";
    AmountNotPositive = "amount_not_positive", "the amount must be greater than zero", "give a positive amount";
    AmountTooLarge = "amount_too_large", "the sum leaves the range the ledger counts in", "split the amount";
    NotReversible = "not_reversible", "only an executed purchase, transfer or booking can be reversed", "see `countersign transaction show`";
    NonceReplayed = "nonce_replayed", "this request was received before", "sign a fresh request";
    QueuedManual = "queued_manual", "the payment waits for the bank's people", "ask again later with the same idempotency key";
    SubmissionPending = "submission_pending", "the core banking system has the order and has not answered", "ask get_transaction; repeating is safe";
    CoreRefused = "core_refused", "the core banking system refused the payment", "see the reason at `countersign transaction show`";
    CaseRejected = "case_rejected", "the bank's people said no", "do not retry";
    PaidElsewhere = "paid_elsewhere", "the bank's people made the payment outside of this system", "do not retry: it is paid";
    UnknownCase = "unknown_case", "no such case", "see `countersign manual list`";
    CaseTaken = "case_taken", "somebody else works on this case", "ask them, or take it with `countersign manual take --take-over`";
    SecondPersonNeeded = "second_person_needed", "above the threshold two people say the same, and this person has said it already", "another person says `countersign manual done`";
    BreakerOpen = "breaker_open", "the bank has stopped payments", "try again when the bank has resumed them";
    ReversalExceedsOriginal = "reversal_exceeds_original", "reversals may not exceed the original", "lower the amount";
    UnderLegalHold = "under_legal_hold", "the subject is under a legal hold: nothing of it is erased", "release it with `countersign audit release` when the hold is over";
    SubjectNotErasable = "subject_not_erasable", "what the daemon recorded about its own work is nobody's to erase", "name an owner, an agent or an operator: see `countersign audit subjects`";
    UnknownCredential = "unknown_credential", "the vault has no credential of this name", "see `countersign vault list`";
    UnknownCredentialVersion = "unknown_credential_version", "the credential has no version of this number", "see `countersign vault list`";
    CredentialExists = "credential_exists", "the vault has a credential of this name", "give it its next version with `countersign vault rotate`, or choose another name";
    CredentialChanged = "credential_changed", "somebody else changed the credential meanwhile", "look at it with `countersign vault list`, then try again";
    CredentialNotReadable = "credential_not_readable", "this credential is not for whoever asked", "have an administrator name the reader with `countersign vault rotate --reader`";
    CredentialExpired = "credential_expired", "the credential's time is over", "have an administrator give it its next version with `countersign vault rotate`";
    CredentialDamaged = "credential_damaged", "what is kept of the credential is not what was put there", "find out who changed the store, then give it its next version with `countersign vault rotate`";
    NewestVersionStays = "newest_version_stays", "the newest version is the one that is read", "rotate first, or remove the whole credential";
    TooManyCredentials = "too_many_credentials", "the vault has 10000 credentials, or has had 100000 names", "remove those that are no longer wanted, or use a name again";
    TooManyCredentialVersions = "too_many_credential_versions", "the credential has 100 versions", "remove old ones with `countersign vault rm --version`";
    SerialTaken = "serial_taken", "the issuer has given this serial number before", "issue it again with a fresh one";
    LogOfAnother = "log_of_another", "another party's log has this name", "set audit.origin back to the name of your own log";
    LogRenamed = "log_renamed", "this party's log has another name here: under a new one it could begin a second history", "set audit.origin back: a log keeps its name for ever";
    TooManyLogs = "too_many_logs", "the witness remembers as many logs as it can", "ask the witness's people to look at the logs that it remembers";
    UnknownLog = "unknown_log", "no log of this name was cosigned here", "see `countersign witness status`";
    LogNotHalted = "log_not_halted", "the log is cosigned: there is nothing to go on from but what is remembered", "see `countersign witness status`";
    HeadNotShown = "head_not_shown", "this is not the head that halted the log", "name size and root of what was handed in, as `countersign witness status` shows them; without --size it goes on from what was cosigned last";
    SizeTooLarge = "size_too_large", "no log has so many leaves", "send the checkpoint of a log of fewer than 2^63 leaves";
    IdempotencyMismatch = "idempotency_mismatch", "the idempotency key was used for another request to this key", "use a fresh key for another request, or repeat the first one to the byte";
    UnknownSigning = "unknown_signing", "the order of these signatures was forgotten before they were made", "ask for them again";
    StaleCrl = "stale_crl", "the CRL is older than the one in force", "import the newest CRL";
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message())
    }
}
