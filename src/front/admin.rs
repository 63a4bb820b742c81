//! The admin socket: its vocabulary, and what each verb does. One JSON object a line, one answer a line.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::audit::CopyHead;
use crate::audit::archive::ArchiveCall;
use crate::audit::export::ExportCall;
use crate::audit::prove::LeafChoice;
use crate::audit::search::SearchCall;
use crate::audit::subjects::{self, SubjectCall};
use crate::ca::mandates::MandateWish;
use crate::ca::settings::PartyKind;
use crate::ca::{InvitationWish, RevokeMode, RevokeRequest, SignedWord};
use crate::front::compliance::{self, ReportWish};
use crate::front::doctor;
use crate::front::services::Services;
use crate::front::witness;
use crate::kernel::approval::{ApprovalDocument, PaymentTerms};
use crate::kernel::command::{Actor, NewAccount, OperatorPrincipal, Verb, Verdict};
use crate::kernel::credential::operator::SignedApproval;
use crate::kernel::credential::reading::SignedReading;
use crate::kernel::quorum::Side;
use crate::kernel::receipt::Base64;
use crate::kernel::refusal::Refusal;
use crate::kernel::sign::{Algorithm, Purpose};
use crate::kernel::text::OnHostile;
use crate::kernel::tile::Tile;
use crate::kernel::types::{
    AccountId, AgentName, ApprovalId, Currency, IdempotencyKey, KeyId, MandateId, MerchantId, Money, OperatorName,
    OwnerId, PartyName, ProductId, RoleName, Sha256, SpiffeId, TransactionId,
};
use crate::kernel::witness::Head;
use crate::notify::NotifyCall;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::payment::{DeskCall, PolicyCall};
use crate::store::Listing;
use crate::vault::{Released, VaultCall};

/// How long `receipt show` waits for the log's next checkpoint.
const RECEIPT_WAIT: Duration = Duration::from_secs(10);

/// How long an export waits for the witness's word on what is there.
const COSIGNATURE_WAIT: Duration = Duration::from_secs(3);

/// One request on the admin socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminRequest {
    /// In a demo with asserted operators: which operator of this uid is meant.
    #[serde(default)]
    pub operator: Option<String>,
    pub call: AdminCall,
}

/// A line of the answer: any number of `{"progress": …}`, then `{"ok": …}`, `{"secret": …}` or `{"error": …}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminAnswer {
    /// How far a long call is.
    Progress(Value),
    Ok(Value),
    /// A value of the vault: never part of a tree.
    Secret(Released),
    Error(Failure),
}

/// Every administrative verb. PEM and JSON documents travel as text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", content = "args", rename_all = "snake_case", deny_unknown_fields)]
pub enum AdminCall {
    Status {},
    Doctor {},

    // ca: set-up
    InitParty {},
    TrustAdd {
        party: PartyName,
        root_pem: String,
        issuing_pem: String,
    },
    HostShow {},
    HostEnrol {
        host: Value,
    },
    HostList {},
    HostRemove {
        /// Its party's name, or its key.
        host: String,
    },
    CatalogueSign {
        catalogue: Value,
    },
    CatalogueInstall {
        catalogue: Value,
    },

    // ca: people
    OperatorShow {},
    OperatorEnrol {
        request: Value,
        roles: Vec<String>,
        #[serde(default)]
        owner: Option<OwnerId>,
    },
    OperatorList {},
    /// With an operator's own state directory: signs what the person approves.
    ApprovalSign {
        party: PartyName,
        agent: SpiffeId,
        agent_key: KeyId,
        days: u32,
    },

    // ca: certificates
    CertRequest {
        name: AgentName,
        role: RoleName,
        endorsement_pem: Option<String>,
    },
    CertEndorse {
        request: Value,
        #[serde(default)]
        approval: Option<SignedApproval>,
    },
    CertIssue {
        request: Value,
        #[serde(default)]
        approval: Option<SignedApproval>,
    },
    /// An officer's approval ahead of the request.
    CertApprove {
        approval: SignedApproval,
    },
    /// What officers have approved here.
    CertApprovals {},
    /// Ends approvals: of an agent, or over one key.
    CertDisapprove {
        name: Option<AgentName>,
        key: Option<KeyId>,
    },
    CertInstall {
        name: AgentName,
        bank_pem: String,
        endorsement_pem: String,
    },
    CertRenew {
        name: AgentName,
    },
    CertPending {},
    CertAbandon {
        name: AgentName,
    },
    CertList {},
    CertShow {
        name: AgentName,
    },
    Revoke(RevokeRequest),
    Freeze {
        /// None: everyone.
        agent: Option<String>,
        reason: String,
        mode: RevokeMode,
    },
    Unfreeze {
        agent: Option<String>,
        note: String,
        mode: RevokeMode,
    },
    FreezeList {},
    MonitorShow {
        agent: String,
        limit: u32,
    },
    MonitorAlerts {
        limit: u32,
    },
    MonitorReplay {
        from: u64,
        agent: Option<String>,
    },
    CrlExport {},
    CrlCheck {},
    CrlImport {
        crl_pem: String,
    },

    // keys
    KeyList {},
    KeyShow {
        label: String,
    },
    /// Makes a key for other programs, or its next version.
    KeyGenerate {
        purpose: Purpose,
        name: String,
        algorithm: Option<Algorithm>,
    },
    KeyRotate {
        purpose: Purpose,
    },
    /// Puts the issuing CA that was announced to use.
    IssuingUse {},
    KeyRetire {
        label: String,
    },
    KeyDestroy {
        label: String,
        confirm: Option<String>,
    },
    CustodyReport {},

    // the bank's book
    AccountOpen(NewAccount),
    AccountList {},
    AccountIncoming {
        account: AccountId,
        amount: String,
        /// None: the account's own.
        currency: Option<Currency>,
        reference: IdempotencyKey,
    },
    MerchantAdd {
        merchant: MerchantId,
        name: String,
        currency: Currency,
        /// Somebody has looked at the registered one that it looks like.
        #[serde(default)]
        looks_like_accepted: bool,
        on_hostile: OnHostile,
    },
    MerchantList {},
    ProductAdd {
        merchant: MerchantId,
        product: ProductId,
        title: String,
        price: Money,
        on_hostile: OnHostile,
    },
    ProductList {},
    GrantAdd {
        agent: AgentName,
        account: AccountId,
        owner: OwnerId,
        verbs: Vec<Verb>,
        per_transaction_max: Option<Money>,
        days: u32,
    },
    GrantRevoke {
        agent: AgentName,
        account: AccountId,
    },
    GrantList {},
    /// With an owner's own state directory: signs a mandate.
    MandateSign(MandateWish),
    MandateAdd {
        mandate: String,
    },
    MandateList {
        agent: Option<AgentName>,
        #[serde(default)]
        after: Option<MandateId>,
        limit: u32,
    },
    MandateShow {
        mandate: MandateId,
    },
    MandateRevoke {
        mandate: MandateId,
        reason: String,
    },
    ApprovalsList {
        #[serde(default)]
        after: Option<ApprovalId>,
        limit: u32,
    },
    ApprovalsShow {
        approval: ApprovalId,
    },
    /// What a person of the bank, or the owner, is asked to sign about an approval.
    ApprovalsQuestion {
        reading: SignedReading,
        side: Side,
        verdict: Verdict,
    },
    ApprovalsDecide {
        approval: ApprovalId,
        #[serde(default = "bank_side")]
        side: Side,
        verdict: Verdict,
        note: String,
        /// None: the operator is known by user id alone, where that counts.
        #[serde(default)]
        signed: Option<Box<SignedWord>>,
    },
    /// What waits for the consent of the owner who signed this.
    ConsentList {
        reading: SignedReading,
    },
    ConsentShow {
        reading: SignedReading,
    },
    /// With a person's own state directory: signs that the person asks a bank to see this.
    ReadingSign {
        party: PartyName,
        approval: Option<ApprovalId>,
    },
    /// With a person's own state directory: signs the person's word about a payment.
    WordSign {
        document: Box<ApprovalDocument>,
        terms: Box<PaymentTerms>,
    },
    /// Accounts, payments and stopped payments, as officers and auditors see them.
    Desk(DeskCall),
    LedgerCheck {},
    /// What each role may do.
    Policy(PolicyCall),

    /// Messages to people.
    Notify(NotifyCall),

    /// Credentials of the systems behind us.
    Vault(VaultCall),

    // the witness
    WitnessStatus {},
    WitnessAccept {
        origin: String,
        /// None: from where it was.
        head: Option<Head>,
        reason: String,
    },
    /// What leaves say of one subject: holding it, erasing it.
    Subjects(SubjectCall),

    // audit
    Receipt {
        transaction: TransactionId,
    },
    AuditShow {
        limit: u32,
    },
    /// With the head of a copy that the log must begin with.
    AuditCheck {
        #[serde(default)]
        copy: Option<CopyHead>,
    },
    AuditSearch(SearchCall),
    /// The next part of a search's file.
    AuditExport(ExportCall),
    /// The note of that file, when it is what the search finds.
    AuditSignExport {
        export: ExportCall,
        sha256: Sha256,
    },
    AuditProve {
        leaf: LeafChoice,
    },
    /// The evidence of one payment.
    AuditBundle {
        transaction: TransactionId,
    },
    AuditHead {},
    /// Tiles by their paths, at most 64 at a time.
    AuditTiles {
        tiles: Vec<String>,
    },
    AuditArchive(ArchiveCall),

    // report
    ReportCompliance(ReportWish),

    /// Who may sign in at the console.
    Console(ConsoleCall),
}

/// What is asked about the console's people.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", content = "args", rename_all = "snake_case", deny_unknown_fields)]
pub enum ConsoleCall {
    /// The first administrator's link, as long as nobody has a passkey.
    First {
        name: OperatorName,
        hours: u32,
    },
    Invite {
        name: OperatorName,
        roles: Vec<String>,
        #[serde(default)]
        owner: Option<OwnerId>,
        hours: u32,
    },
    Invitations {},
    /// A second administrator's word for somebody who had a key before.
    Confirm {
        id: String,
    },
    Withdraw {
        id: String,
    },
    Sessions {},
    /// Ends the sessions of one person, or of all.
    SignOut {
        name: Option<OperatorName>,
    },
}

impl ConsoleCall {
    fn only_shows(&self) -> bool {
        matches!(self, Self::Invitations {} | Self::Sessions {})
    }
}

/// Tiles that one call answers.
const TILES_MAX: usize = 64;

/// Carries out one request of the peer with this uid. Blocking; a long one tells `progress` how far it is.
pub fn serve(services: &Services, uid: u32, request: AdminRequest, progress: &mut dyn FnMut(Value)) -> AdminAnswer {
    let setup = &services.setup;
    let operator = match signed_in(&request.call) {
        Some(Signed::Approval(approval)) => setup.authority.officer(approval, uid),
        Some(Signed::Word(word)) => {
            setup.authority.speaker(word, uid, services.console_origin().as_ref()).map(|(operator, _)| operator)
        }
        Some(Signed::Reading(reading)) => setup.authority.reader(reading, uid),
        None => setup.operators.identify(uid, request.operator.as_deref()),
    };
    let operator = operator.and_then(|operator| {
        let configured = setup.operators.owner_of(&operator.name);
        setup.authority.with_owner(operator, configured)
    });
    asked(services, operator, request.call, progress)
}

/// Carries out what somebody asks who is known, at whichever door: the socket, or the console. Who may ask what is decided
/// here and behind it, and nowhere else.
pub fn asked(
    services: &Services,
    operator: Result<OperatorPrincipal, Failure>,
    call: AdminCall,
    progress: &mut dyn FnMut(Value),
) -> AdminAnswer {
    let setup = &services.setup;
    let (verb, only_shows) = (verb_of(&call), only_shows(&call));
    let operator = operator.and_then(|operator| {
        let is_stranger = setup.authority.kind() == PartyKind::Bank && operator.is_only_owner();
        if is_stranger && !is_for_owners(&call) {
            let refusal = Refusal::OperatorNotPermitted;
            return Err(Failure::refused(refusal.name(), refusal.message(), refusal.next_step()));
        }
        Ok(operator)
    });
    let operator = operator.and_then(|operator| match services.disagreement() {
        Some(disagreement) if !goes_on_disagreeing(&call, only_shows) => Err(disagreement.failure()),
        Some(_) | None => Ok(operator),
    });
    let answer = operator.and_then(|operator| match call {
        AdminCall::Vault(VaultCall::Get { name, version }) => {
            services.setup.vault.release(&operator, &name, version).map(AdminAnswer::Secret)
        }
        call => dispatch(services, &operator, call, progress).map(AdminAnswer::Ok),
    });
    if let Ok(log) = services.log() {
        log.notify();
    }
    match answer {
        Ok(answer) => {
            if !only_shows {
                services.changes.tell();
            }
            answer
        }
        Err(failure) => {
            let request_id = failure.request_id.clone().unwrap_or_else(|| clock::fresh_request_id().to_string());
            tracing::info!(%verb, %request_id, name = %failure.name, "admin request not done");
            AdminAnswer::Error(failure.with_request(&request_id))
        }
    }
}

/// What is answered although the witness has seen another history of this log, or a longer one: what only shows, without
/// a signature and without a leaf that the next one is built on; and what stops agents, which nobody is to wait with.
fn goes_on_disagreeing(call: &AdminCall, only_shows: bool) -> bool {
    let is_signed_or_kept = matches!(
        call,
        AdminCall::AuditSignExport { .. } | AdminCall::AuditArchive(ArchiveCall::Now {}) | AdminCall::Vault(_)
    );
    let stops =
        matches!(call, AdminCall::Revoke(_) | AdminCall::Freeze { .. } | AdminCall::Desk(DeskCall::BankStop { .. }));
    stops || (only_shows && !is_signed_or_kept)
}

/// What changes nothing that an agent sees: those who listen need not look.
fn only_shows(call: &AdminCall) -> bool {
    if let AdminCall::Notify(call) = call {
        return call.only_shows();
    }
    if let AdminCall::Subjects(call) = call {
        return call.only_shows();
    }
    if let AdminCall::Desk(call) = call {
        return call.only_shows();
    }
    if let AdminCall::Console(call) = call {
        return call.only_shows();
    }
    use AdminCall::{
        AccountList, ApprovalsList, ApprovalsQuestion, ApprovalsShow, AuditArchive, AuditBundle, AuditCheck,
        AuditExport, AuditHead, AuditProve, AuditSearch, AuditShow, AuditSignExport, AuditTiles, CertApprovals,
        CertList, CertPending, CertShow, ConsentList, ConsentShow, CrlCheck, CrlExport, CustodyReport, Doctor,
        FreezeList, GrantList, HostList, HostShow, KeyList, KeyShow, LedgerCheck, MandateList, MandateShow,
        MerchantList, MonitorAlerts, MonitorReplay, MonitorShow, OperatorList, OperatorShow, Policy, ProductList,
        Receipt, ReportCompliance, Status, Vault, WitnessStatus,
    };
    matches!(
        call,
        Status {}
            | Doctor {}
            | HostShow {}
            | HostList {}
            | OperatorShow {}
            | OperatorList {}
            | CertApprovals {}
            | CertPending {}
            | CertList {}
            | CertShow { .. }
            | FreezeList {}
            | MonitorShow { .. }
            | MonitorAlerts { .. }
            | MonitorReplay { .. }
            | CrlExport {}
            | CrlCheck {}
            | KeyList {}
            | KeyShow { .. }
            | CustodyReport {}
            | AccountList {}
            | MerchantList {}
            | ProductList {}
            | GrantList {}
            | MandateList { .. }
            | MandateShow { .. }
            | ApprovalsList { .. }
            | ApprovalsShow { .. }
            | ApprovalsQuestion { .. }
            | ConsentList { .. }
            | ConsentShow { .. }
            | LedgerCheck {}
            | Policy(PolicyCall::History { .. } | PolicyCall::Show { .. })
            | WitnessStatus {}
            | Receipt { .. }
            | AuditShow { .. }
            | AuditCheck { .. }
            | AuditSearch(_)
            | AuditExport(_)
            | AuditSignExport { .. }
            | AuditProve { .. }
            | AuditBundle { .. }
            | AuditHead {}
            | AuditTiles { .. }
            | AuditArchive(_)
            | ReportCompliance(_)
            | Vault(_)
    )
}

/// What a customer of the bank may ask for there, about their own accounts alone: everything else is the bank's.
fn is_for_owners(call: &AdminCall) -> bool {
    matches!(
        call,
        AdminCall::MandateAdd { .. }
            | AdminCall::MandateList { .. }
            | AdminCall::MandateShow { .. }
            | AdminCall::MandateRevoke { .. }
            | AdminCall::ApprovalsQuestion { .. }
            | AdminCall::ApprovalsDecide { .. }
            | AdminCall::ConsentList { .. }
            | AdminCall::ConsentShow { .. }
    )
}

/// As it is called on the socket.
fn verb_of(call: &AdminCall) -> String {
    // No tree is ever made of a value.
    if let AdminCall::Vault(_) = call {
        return "vault".to_owned();
    }
    let told = serde_json::to_value(call).unwrap_or_default();
    told["verb"].as_str().unwrap_or_default().to_owned()
}

fn bank_side() -> Side {
    Side::Bank
}

/// What a person's own key signed in a call.
enum Signed<'a> {
    Approval(&'a SignedApproval),
    Word(&'a SignedWord),
    Reading(&'a SignedReading),
}

/// What a person signed in this call: then the signature says who asks, whoever carries it to the socket.
fn signed_in(call: &AdminCall) -> Option<Signed<'_>> {
    if let AdminCall::CertApprove { approval } = call {
        return Some(Signed::Approval(approval));
    }
    if let AdminCall::ApprovalsDecide { signed, .. } = call {
        return signed.as_deref().map(Signed::Word);
    }
    if let AdminCall::ApprovalsQuestion { reading, .. }
    | AdminCall::ConsentList { reading }
    | AdminCall::ConsentShow { reading } = call
    {
        return Some(Signed::Reading(reading));
    }
    let (AdminCall::CertEndorse { approval, .. } | AdminCall::CertIssue { approval, .. }) = call else {
        return None;
    };
    approval.as_ref().map(Signed::Approval)
}

/// The approval that a reading names.
fn named(reading: &SignedReading) -> Result<&ApprovalId, Failure> {
    reading
        .reading
        .approval_id
        .as_ref()
        .ok_or_else(|| Failure::usage("approval_unnamed", "the reading names no approval", "give the approval's id"))
}

fn dispatch(
    services: &Services,
    operator: &OperatorPrincipal,
    call: AdminCall,
    progress: &mut dyn FnMut(Value),
) -> Result<Value, Failure> {
    let authority = &services.setup.authority;
    let actor = Actor::Operator(operator.clone());
    let bank = || services.payments();
    match call {
        AdminCall::Status {} => doctor::status(services),
        AdminCall::Doctor {} => doctor::report(services),

        AdminCall::InitParty {} => completed(services, authority.init_party(&actor)),
        AdminCall::TrustAdd { party, root_pem, issuing_pem } => {
            completed(services, authority.trust_add(&actor, &party, &root_pem, &issuing_pem))
        }
        AdminCall::HostShow {} => authority.host_show(&actor),
        AdminCall::HostEnrol { host } => authority.host_enrol(&actor, &host),
        AdminCall::HostList {} => authority.host_list(&actor),
        AdminCall::HostRemove { host } => authority.host_remove(&actor, &host),
        AdminCall::CatalogueSign { catalogue } => authority.catalogue_sign(&actor, &catalogue),
        AdminCall::CatalogueInstall { catalogue } => {
            completed(services, authority.catalogue_install(&actor, &catalogue))
        }

        AdminCall::OperatorShow {} => authority.operator_show(&actor),
        AdminCall::OperatorEnrol { request, roles, owner } => {
            authority.operator_enrol(&actor, &request, &roles, owner.as_ref())
        }
        AdminCall::OperatorList {} => authority.operator_list(&actor),
        AdminCall::ApprovalSign { party, agent, agent_key, days } => {
            authority.approval_sign(&actor, party, agent, agent_key, days)
        }

        AdminCall::CertRequest { name, role, endorsement_pem } => {
            authority.cert_request(&actor, &name, &role, endorsement_pem.as_deref())
        }
        AdminCall::CertEndorse { request, approval } => authority.cert_endorse(&actor, &request, approval.as_ref()),
        AdminCall::CertIssue { request, approval } => authority.cert_issue(&actor, &request, approval.as_ref()),
        AdminCall::CertApprove { approval } => authority.cert_approve(&actor, &approval),
        AdminCall::CertApprovals {} => authority.approval_list(&actor),
        AdminCall::CertDisapprove { name, key } => authority.approval_withdraw(&actor, name.as_ref(), key),
        AdminCall::CertInstall { name, bank_pem, endorsement_pem } => {
            authority.cert_install(&actor, &name, &bank_pem, &endorsement_pem)
        }
        AdminCall::CertRenew { name } => authority.cert_renew(&actor, &name),
        AdminCall::CertPending {} => authority.endorsement_list(&actor),
        AdminCall::CertAbandon { name } => authority.cert_abandon(&actor, &name),
        AdminCall::CertList {} => authority.cert_list(&actor),
        AdminCall::CertShow { name } => authority.cert_show(&actor, &name),
        AdminCall::Revoke(request) => authority.revoke(&actor, &request),
        AdminCall::Freeze { agent, reason, mode } => authority.freeze(&actor, agent.as_deref(), &reason, mode),
        AdminCall::Unfreeze { agent, note, mode } => authority.unfreeze(&actor, agent.as_deref(), &note, mode),
        AdminCall::FreezeList {} => authority.freezes(&actor),
        AdminCall::MonitorShow { agent, limit } => services.watch()?.show(&*services.setup.store, &agent, limit),
        AdminCall::MonitorAlerts { limit } => services.watch()?.alerts(&*services.setup.store, limit),
        AdminCall::MonitorReplay { from, agent } => {
            let limit = crate::monitor::REPLAY_SCORES_MAX;
            services.watch()?.replay(&*services.setup.store, from, agent.as_deref(), limit, progress)
        }
        AdminCall::CrlCheck {} => authority.crl_check(&actor, &services.responder),
        AdminCall::CrlExport {} => authority.crl_export(&actor),
        AdminCall::CrlImport { crl_pem } => authority.crl_import(&actor, &crl_pem),

        AdminCall::KeyList {} => authority.key_list(&actor),
        AdminCall::KeyShow { label } => authority.key_show(&actor, &label),
        AdminCall::KeyGenerate { purpose, name, algorithm } => {
            authority.key_generate(&actor, purpose, &name, algorithm)
        }
        AdminCall::KeyRotate { purpose } => services.rotate_key(&actor, purpose),
        AdminCall::IssuingUse {} => services.use_issuing(&actor),
        AdminCall::KeyRetire { label } => authority.key_retire(&actor, &label),
        AdminCall::KeyDestroy { label, confirm } => authority.key_destroy(&actor, &label, confirm.as_deref()),
        AdminCall::CustodyReport {} => authority.custody_report(&actor),

        AdminCall::AccountOpen(new) => bank()?.account_open(operator, new),
        AdminCall::AccountList {} => bank()?.list(operator, Listing::Accounts),
        AdminCall::AccountIncoming { account, amount, currency, reference } => {
            bank()?.account_incoming(operator, account, &amount, currency, reference)
        }
        AdminCall::MerchantAdd { merchant, name, currency, looks_like_accepted, on_hostile } => {
            bank()?.merchant_add(operator, merchant, name, currency, looks_like_accepted, on_hostile)
        }
        AdminCall::MerchantList {} => bank()?.list(operator, Listing::Merchants),
        AdminCall::ProductAdd { merchant, product, title, price, on_hostile } => {
            bank()?.product_add(operator, merchant, product, title, price, on_hostile)
        }
        AdminCall::ProductList {} => bank()?.list(operator, Listing::Products),
        AdminCall::GrantAdd { agent, account, owner, verbs, per_transaction_max, days } => {
            bank()?.grant_add(operator, &agent, account, owner, verbs, per_transaction_max, days)
        }
        AdminCall::GrantRevoke { agent, account } => bank()?.grant_revoke(operator, &agent, account),
        AdminCall::GrantList {} => bank()?.list(operator, Listing::Grants),
        AdminCall::MandateSign(wish) => authority.mandate_sign(&actor, &wish),
        AdminCall::MandateAdd { mandate } => {
            let payments = bank()?;
            payments.mandate_add(operator, authority.mandate_verified(&actor, &mandate)?)
        }
        AdminCall::MandateList { agent, after, limit } => {
            bank()?.mandate_list(operator, agent.as_ref(), after.as_ref(), limit)
        }
        AdminCall::MandateShow { mandate } => bank()?.mandate_show(operator, &mandate),
        AdminCall::MandateRevoke { mandate, reason } => bank()?.mandate_revoke(operator, mandate, reason),
        AdminCall::ApprovalsList { after, limit } => bank()?.approvals_list(operator, after, limit),
        AdminCall::ApprovalsShow { approval } => bank()?.approvals_show(operator, &approval),
        AdminCall::ApprovalsQuestion { reading, side, verdict } => {
            bank()?.approvals_question(operator, named(&reading)?, side, verdict)
        }
        AdminCall::ApprovalsDecide { approval, side, verdict, note, signed } => {
            let evidence = signed.map(|word| {
                let console = services.console_origin();
                authority.speaker(&word, operator.uid, console.as_ref()).map(|(_, evidence)| evidence)
            });
            bank()?.approvals_decide(operator, approval, side, verdict, note, evidence.transpose()?)
        }
        AdminCall::ConsentList { .. } => bank()?.consent_list(operator),
        AdminCall::ConsentShow { reading } => bank()?.consent_show(operator, named(&reading)?),
        AdminCall::ReadingSign { party, approval } => authority.reading_sign(&actor, party, approval),
        AdminCall::WordSign { document, terms } => authority.word_sign(&actor, &document, &terms),
        AdminCall::Desk(call) => bank()?.desk(operator, call),
        AdminCall::LedgerCheck {} => bank()?.ledger_check(operator, progress),
        AdminCall::Policy(PolicyCall::Apply { document, expects }) => {
            services.apply_policy(operator, document, expects)
        }
        AdminCall::Policy(PolicyCall::History { before, limit }) => bank()?.policy_history(operator, before, limit),
        AdminCall::Policy(PolicyCall::Show { version }) => bank()?.policy_show(operator, version),

        AdminCall::Notify(call) => match &services.setup.notifier {
            Some(notifier) => notifier.desk(operator, call),
            None => Err(Failure::usage("no_notifier", "this daemon tells nobody of anything", "ask a party's daemon")),
        },

        AdminCall::Vault(call) => services.setup.vault.desk(operator, call, progress),

        AdminCall::WitnessStatus {} => witness::status(services),
        AdminCall::WitnessAccept { origin, head, reason } => witness::accept(services, operator, origin, head, reason),
        AdminCall::Subjects(call) => subjects::desk(&*services.setup.store, operator, call),

        AdminCall::Receipt { transaction } => {
            let receipt = services.log()?.receipt(&transaction, RECEIPT_WAIT)?;
            serde_json::to_value(&receipt)
                .map_err(|error| Failure::fault("receipt_unwritable", error.to_string(), "report this as a defect"))
        }
        AdminCall::AuditShow { limit } => services.log()?.show(limit),
        AdminCall::AuditCheck { copy } => {
            let roots = services.setup.authority.trusted_roots()?;
            let examined = services.log()?.examine_witnessed(copy.as_ref(), Some(&roots), progress);
            examined.map(|examined| examined.to_json())
        }
        AdminCall::AuditProve { leaf } => services.log()?.prove(&leaf).map(|proof| json!({ "proof": proof })),
        AdminCall::AuditSearch(call) => services.log()?.search(&call).map(|page| page.to_json()),
        AdminCall::AuditExport(call) => services.log()?.export(&call).map(|page| json!(page)),
        AdminCall::AuditSignExport { export, sha256 } => {
            services.log()?.sign_export(&export, sha256, progress).map(|note| json!({ "note": note }))
        }
        AdminCall::AuditBundle { transaction } => {
            let file = services.log()?.bundle(&transaction, RECEIPT_WAIT)?;
            Ok(json!({ "transaction_id": transaction, "bundle": Base64(file) }))
        }
        AdminCall::AuditHead {} => services.log()?.head(COSIGNATURE_WAIT).map(|head| json!(head)),
        AdminCall::AuditTiles { tiles } => audit_tiles(services, &tiles),
        AdminCall::AuditArchive(call) => match &services.setup.archive {
            Some(archive) => archive.answer(services.log()?, call, progress),
            None => Err(Failure::usage(
                "archive_off",
                "this log is archived nowhere",
                "add [audit.archive] to countersign.toml and start the daemon again: docs/ARCHIVE.md",
            )),
        },

        AdminCall::ReportCompliance(wish) => compliance::report(services, operator, wish),
        AdminCall::Console(call) => console_people(services, &actor, call),
    }
}

fn console_people(services: &Services, actor: &Actor, call: ConsoleCall) -> Result<Value, Failure> {
    let authority = &services.setup.authority;
    let linked = |mut made: Value| {
        let token = made.as_object_mut().and_then(|made| made.remove("token"));
        made["link"] = json!(services.invitation_link(token.as_ref().and_then(Value::as_str).unwrap_or_default()));
        made
    };
    match call {
        ConsoleCall::First { name, hours } => {
            let made = authority.invite_first(actor, &name, hours)?;
            Ok(json!({ "invitation": made.map(linked) }))
        }
        ConsoleCall::Invite { name, roles, owner, hours } => {
            authority.invite(actor, &InvitationWish { name, roles, owner, hours }).map(linked)
        }
        ConsoleCall::Invitations {} => authority.invitation_list(),
        ConsoleCall::Confirm { id } => authority.invitation_confirm(actor, &id),
        ConsoleCall::Withdraw { id } => authority.invitation_withdraw(actor, &id),
        ConsoleCall::Sessions {} => Ok(json!({ "items": services.sessions.list(), "next": null })),
        ConsoleCall::SignOut { name } => {
            authority.sessions_ended(actor, name.as_ref(), || services.sessions.end_of(name.as_ref()))
        }
    }
}

fn audit_tiles(services: &Services, paths: &[String]) -> Result<Value, Failure> {
    let log = services.log()?;
    let tile = |path: &String| {
        let tile = Tile::parse(path).ok_or_else(|| {
            let next = "ask for tile/<L>/<N>[.p/<W>] or tile/entries/<N>[.p/<W>]";
            Failure::usage("tile_path_invalid", format!("{path:?} is no path of a tile"), next)
        })?;
        log.tile(tile).map(Base64)
    };
    if paths.len() > TILES_MAX {
        let next = "ask for fewer at a time";
        return Err(Failure::usage("too_many_tiles", format!("{} tiles; at most {TILES_MAX}", paths.len()), next));
    }
    let items = paths.iter().map(tile).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({ "items": items }))
}

/// After a set-up step: opens what it made possible.
fn completed(services: &Services, done: Result<Value, Failure>) -> Result<Value, Failure> {
    let value = done?;
    services.complete()?;
    Ok(value)
}
