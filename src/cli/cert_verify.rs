//! `countersign cert verify`: judges a pair without a daemon. The verdict is one line of JSON.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::ca::offline::{OfflineJudge, anchors_from_pem, judge_elsewhere, refused_pair, refused_question};
use crate::ca::settings::PkiSettings;
use crate::cli::context::Context;
use crate::cli::documents;
use crate::cli::judging::{Expected, Material, rfc3339, say};
use crate::config::Config;
use crate::kernel::credential::pair::PairQuestion;
use crate::kernel::status::CustodyLevel;
use crate::kernel::types::UnixMillis;
use crate::ops::clock;
use crate::ops::failure::{Failure, Kind};

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  countersign cert verify --bank-root bank-root.pem --company-root secco-root.pem \\
      --crl bank.crl --crl secco.crl chain.pem
  countersign cert verify --bank-root bank/root.pem --bank-issuing bank/issuing.pem \\
      --company-root secco/root.pem --company-issuing secco/issuing.pem --crl secco.crl pair.pem
  countersign cert verify --state /var/lib/countersign B.pem S.pem
With two roots the issuing CAs are taken from the chain (at most 20 certificates), and lists, where
there are any, must cover both halves. With the issuing CAs named, lists must cover the endorsement.
Without roots everything is taken from the state directory, its lists too. The verdict is one line
of JSON on standard output.")]
pub struct Args {
    /// The bank's root certificate
    #[arg(long, value_name = "FILE", requires = "company_root")]
    bank_root: Option<PathBuf>,
    /// The bank's issuing CAs, one or more; from the chain if left out
    #[arg(long, value_name = "FILE", requires_all = ["bank_root", "company_issuing"])]
    bank_issuing: Option<PathBuf>,
    /// The security company's root certificate
    #[arg(long, value_name = "FILE", requires = "bank_root")]
    company_root: Option<PathBuf>,
    /// The security company's issuing CAs, one or more; from the chain if left out
    #[arg(long, value_name = "FILE", requires_all = ["bank_root", "bank_issuing"])]
    company_issuing: Option<PathBuf>,
    /// A revocation list; repeat it for more
    #[arg(long, value_name = "FILE")]
    crl: Vec<PathBuf>,
    /// The moment in question, RFC 3339; now if left out
    #[arg(long, value_parser = rfc3339, value_name = "TIME")]
    at: Option<UnixMillis>,
    /// The least custody to accept
    #[arg(long, value_name = "LEVEL")]
    custody: Option<Custody>,
    /// Trust domain of the SPIFFE ID
    #[arg(long)]
    trust_domain: Option<String>,
    /// Base of the private object identifiers
    #[arg(long)]
    oid_base: Option<String>,
    /// B and S in this order, then issuing CAs, in one file or several
    #[arg(required = true, value_name = "FILE")]
    chain: Vec<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Custody {
    #[value(alias = "stated")]
    CustodyStated,
    #[value(alias = "observed")]
    CustodyObserved,
}

impl From<Custody> for CustodyLevel {
    fn from(custody: Custody) -> Self {
        match custody {
            Custody::CustodyStated => Self::CustodyStated,
            Custody::CustodyObserved => Self::CustodyObserved,
        }
    }
}

/// Carries the verb out.
///
/// # Errors
/// `document_unreadable`, `config_invalid`, `anchor_invalid`, and the names of the acceptance rule and of lists.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let at = args.at.unwrap_or_else(clock::now);
    let judged = judge(args, context, at);
    // A verdict on a question that could not be asked is a verdict too.
    if let Err(failure) = &judged
        && failure.kind == Kind::Refused
    {
        say(&refused_question(failure, at));
    }
    judged?.map_or(Ok(()), Err)
}

/// Says the verdict; answers the refusal if it is one.
fn judge(args: Args, context: &Context, at: UnixMillis) -> Result<Option<Failure>, Failure> {
    let files = |paths: &[PathBuf], expected| Material::read(paths.iter().map(PathBuf::as_path), expected);
    let chain = files(&args.chain, Expected::Certificates)?;
    let mut lists = files(&args.crl, Expected::Lists)?.lists;
    lists.extend(chain.lists);
    let roots = args.bank_root.zip(args.company_root);
    let issuing = args.bank_issuing.zip(args.company_issuing);
    let config = if roots.is_none() { Some(Config::load(&context.state)?) } else { None };
    let mut pki = config.as_ref().map_or_else(PkiSettings::default, |config| config.pki.clone());
    pki.custody_min = args.custody.map_or(pki.custody_min, CustodyLevel::from);
    pki.trust_domain = args.trust_domain.unwrap_or(pki.trust_domain);
    pki.oid_base = args.oid_base.unwrap_or(pki.oid_base);
    // Whole seconds, as certificates have them.
    let second = UnixMillis(at.seconds().saturating_mul(1000));
    let judge = match (roots, issuing, &config) {
        (Some((bank_root, company_root)), None, _) => {
            let (bank_root, company_root) = (root(&bank_root)?, root(&company_root)?);
            let (verdict, refusal) = judge_elsewhere(&PairQuestion {
                bank_root: &bank_root,
                company_root: &company_root,
                chain: &chain.certificates,
                lists: &lists,
                at,
                trust_domain: &pki.trust_domain,
                oid_base: pki
                    .oid_base
                    .parse()
                    .map_err(|error| Failure::usage("config_invalid", format!("{error}"), "correct --oid-base"))?,
                custody_min: pki.custody_min,
            });
            say(&verdict);
            return Ok(refusal);
        }
        (Some((bank_root, company_root)), Some((bank_issuing, company_issuing)), _) => {
            let bank = anchors_from_pem(&documents::read(&bank_root)?, &documents::read(&bank_issuing)?)?;
            let company = anchors_from_pem(&documents::read(&company_root)?, &documents::read(&company_issuing)?)?;
            OfflineJudge::from_files(bank, company, &lists, &pki, second)?
        }
        (None, _, Some(config)) => {
            let (_, party, _) = config.hosted();
            OfflineJudge::from_state(&context.state, party.kind, &pki, &chain.certificates, second)?
        }
        (None, _, None) => unreachable!("the configuration is read whenever no roots are given"),
    };
    let (verdict, refusal) = judge.judge(chain.certificates, second);
    say(&verdict);
    Ok(refusal.map(refused_pair))
}

fn root(path: &Path) -> Result<Vec<u8>, Failure> {
    let found = Material::read([path], Expected::Certificates)?.certificates;
    match <[Vec<u8>; 1]>::try_from(found) {
        Ok([root]) => Ok(root),
        Err(_) => Err(Failure::refused(
            "anchor_invalid",
            format!("{} does not hold exactly one certificate", path.display()),
            "give each organisation's root as it is",
        )),
    }
}
