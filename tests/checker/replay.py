"""A second, small ledger that lives through the audit log.

Every decision has a leaf in its own commit, and leaves are in commit order: carried out one after the other on an empty
book they must never break a limit on the way, and must end where the tables are."""

import datetime
import json
import zoneinfo

import merkle
from book import OPEN, canonical, holds

# A case with this reason is closed by the core's word, the others by people.
HOLD_NOT_CONFIRMED = "the core banking system has not confirmed the hold"
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
DECIMALS = {"JPY": 0, "KRW": 0, "ISK": 0, "BHD": 3, "KWD": 3, "TND": 3}


def minor(money):
    """Minor units of `{"amount": "12.30", "currency": "USD"}`, by text alone."""
    whole, _, part = money["amount"].partition(".")
    decimals = DECIMALS.get(money["currency"], 2)
    return int(whole) * 10**decimals + int((part + "0" * decimals)[:decimals] or "0")


def millis(text):
    return round((datetime.datetime.fromisoformat(text.replace("Z", "+00:00")) - EPOCH).total_seconds() * 1000)


class Replay:
    def __init__(self, book, town, differences):
        self.book, self.town, self.differences = book, town or {}, differences
        self.accounts, self.transactions, self.counters = {}, {}, {}
        self.keys, self.approvals, self.cases = {}, {}, {}
        # Marks, as the store keeps them; whom a certificate that was journalled is for.
        self.revoked, self.frozen, self.thaws, self.certificates = set(), set(), {}, {}
        self.breaker = set()
        self.at, self.row = 0, 0

    def run(self):
        tools = {
            "authorize_purchase": self.authorize,
            "authorize_transfer": self.authorize,
            "execute_purchase": self.execute,
            "execute_transfer": self.execute,
            "cancel_authorization": self.cancel,
            "request_reversal": self.reversal,
        }
        acts = {
            "reverse_transaction": self.reversal,
            "decide_approval": self.decide,
            "open_account": self.open_account,
            "incoming_payment": self.incoming,
            "transfer": self.booking,
            "add_merchant": self.add_merchant,
            "set_account_status": self.set_status,
            "set_breaker": self.set_breaker,
            "take_case": self.take_case,
            "resolve_case": self.resolve_case,
            "queue_manual": self.queue_manual,
            "core_answered": self.core_answered,
            "sweep": self.sweep,
            "journal_certificate": self.journal_certificate,
            "revoke": self.revoke,
            "spread_revocation": self.spread_revocation,
            "freeze": self.freeze,
            "unfreeze": self.unfreeze,
            "import_crl": self.import_crl,
        }
        for row in sorted(self.book.leaves):
            try:
                body = json.loads(self.book.leaves[row]["body"])
            except ValueError:
                continue  # told as leaf_commitment_wrong
            self.row, self.at = row, millis(body["at"])
            # An act may bear a tool's name: a refusal that was recorded at the door.
            step = tools.get(body["tool"]) if "tool" in body else acts.get(body["act"])
            if step is None or body["decision"] != "permitted":
                continue
            # A refusal at the door is recorded under the name of what was refused: nothing was done.
            if "act" in body and "outcome" in body["parameters"]:
                continue
            step(body, body["parameters"], body["result"])
        self.compare()

    def differs(self, name, detail):
        self.differences.add(name, f"leaf {self.row}: {detail}")

    # Accounts and money

    def account(self, name, currency, kind="customer", **limits):
        new = {"balance": 0, "held": 0, "currency": currency, "kind": kind, "status": "active"}
        return self.accounts.setdefault(name, new | {"overdraft": 0, "day_max": None, "zone": "UTC"} | limits)

    def day(self, account):
        local = (EPOCH + datetime.timedelta(milliseconds=self.at)).astimezone(zoneinfo.ZoneInfo(account["zone"]))
        return (local.date() - EPOCH.date()).days

    def post(self, name, debit, credit, amount, fee=0, moved=False):
        """Moves amount and fee, and looks whether the payer had them. What has `moved` at the core was asked before it
        was ordered: an account that was frozen since does not undo it."""
        if amount <= 0 or fee < 0 or debit == credit:
            self.differs("posting_out_of_rule", f"{name}: {amount} and {fee} from {debit} to {credit}")
        payer, payee = self.accounts.get(debit), self.accounts.get(credit)
        if payer is None or payee is None or payer["currency"] != payee["currency"]:
            self.differs("posting_out_of_rule", f"{name}: from {debit} to {credit}")
            return
        for account in (debit, credit):
            if not moved and self.accounts[account]["status"] != "active":
                self.differs("posting_out_of_rule", f"{name}: {account} is {self.accounts[account]['status']}")
        payer["balance"] -= amount + fee
        payee["balance"] += amount
        if fee:
            self.account(f"fees:{payer['currency']}", payer["currency"], "fees")["balance"] += fee
        self.solvent(debit)

    def solvent(self, name):
        account = self.accounts[name]
        if account["kind"] != "clearing" and account["balance"] - account["held"] + account["overdraft"] < 0:
            self.differs("overdrawn_on_the_way", f"{name}: {account['balance']} with {account['held']} held")

    def held(self, transaction, sign):
        account = self.accounts.get(transaction["debit"])
        if holds(transaction) and account is not None:
            account["held"] += sign * (transaction["amount"] + transaction["fee"])
            if account["held"] < 0:
                self.differs("released_twice", transaction["name"])

    def hold(self, transaction, sign):
        self.held(transaction, sign)
        self.count(transaction, sign)

    def count(self, transaction, sign):
        for counter, part in self.counted(transaction):
            self.counters[counter] = self.counters.get(counter, 0) + sign * part

    def counted(self, transaction):
        if transaction["counts_on"] is not None:
            yield (transaction["agent"], transaction["counts_on"]), transaction["amount"]
        if transaction["debits_on"] is not None:
            yield (transaction["debit"], transaction["debits_on"]), transaction["amount"] + transaction["fee"]

    def within_account_day(self, transaction):
        """The account's own limit, which nothing passes."""
        account = self.accounts.get(transaction["debit"])
        if account is None or account["day_max"] is None:
            return
        transaction["debits_on"] = self.day(account)
        spent = self.counters.get((transaction["debit"], transaction["debits_on"]), 0)
        if spent + transaction["amount"] + transaction["fee"] > account["day_max"]:
            self.differs("account_day_limit_exceeded", f"{transaction['name']} after {spent}")

    def fee(self, kind, amount, currency, name):
        rules = self.town.get("fees")
        if rules is None:
            return (self.book.transactions.get(name) or {"fee": 0})["fee"]
        for rule in rules:
            if rule["kind"] == kind and rule["currency"] == currency:
                return rule["fixed"] + amount * rule["basis_points"] // 10_000
        return 0

    # What agents do

    def new(self, name, kind, body, debit, credit, amount, **more):
        actor = body["actor"]
        transaction = {
            "name": name, "kind": kind, "debit": debit, "credit": credit, "amount": amount, "fee": 0,
            "agent": actor.get("spiffe_id"), "maker": actor, "state": "approved", "original": None,
            "counts_on": None, "debits_on": None, "expires": None, "resume": None, "case": None,
        } | more  # fmt: skip
        if name in self.transactions:
            self.differs("transaction_made_twice", name)
        self.transactions[name] = transaction
        return transaction

    def key_is_new(self, scope, name):
        """False when this is an earlier answer told again, which must name the same transaction."""
        digest = merkle.sha256(canonical(scope))
        if digest not in self.keys:
            self.keys[digest] = name
            return True
        if self.keys[digest] != name:
            self.differs("key_used_twice", f"{scope}: {self.keys[digest]} and {name}")
            return name not in self.transactions
        return False

    def agent_scope(self, body, parameters):
        actor = body["actor"]
        return ["agent", actor["spiffe_id"], actor["key"], parameters["idempotency_key"]]

    def authorize(self, body, parameters, result):
        if result["status"] == "queued_manual":
            if result["transaction_id"] is None:
                self.case(result["case_id"], scope=self.agent_scope(body, parameters))
            return
        name = result["transaction_id"]
        if not self.key_is_new(self.agent_scope(body, parameters), name):
            return
        if self.breaker:
            self.differs("paid_while_stopped", name)
        self.stands(body["actor"], name)
        kind = "purchase" if body["tool"] == "authorize_purchase" else "transfer"
        money = parameters["price" if kind == "purchase" else "amount"]
        credit = f"merchant:{parameters['merchant']}" if kind == "purchase" else parameters["to_account"]
        debit = parameters["from_account"] or (self.book.transactions.get(name) or {}).get("debit")
        amount = minor(money)
        transaction = self.new(name, kind, body, debit, credit, amount)
        transaction["fee"] = self.fee(kind, amount, money["currency"], name)
        if transaction["fee"]:
            self.account(f"fees:{money['currency']}", money["currency"], "fees")
        self.within_account_day(transaction)
        attended = result["status"] == "requires_approval"
        if attended:
            transaction["state"], transaction["expires"] = "pending_approval", millis(result["expires"])
            self.approvals[result["approval_id"]] = name
        else:
            transaction["expires"] = self.after("authorization_ttl_ms", name)
            self.unattended(transaction, money)
        self.open_holds(transaction)
        self.hold(transaction, 1)
        if debit in self.accounts:
            self.solvent(debit)

    def after(self, ttl, name):
        if ttl in self.town:
            return self.at + self.town[ttl]
        return (self.book.transactions.get(name) or {}).get("expires")

    def unattended(self, transaction, money):
        account = self.accounts.get(transaction["debit"])
        if account is None:
            return
        transaction["counts_on"] = self.day(account)
        if "unattended_per_day" not in self.town:
            return
        spent = self.counters.get((transaction["agent"], transaction["counts_on"]), 0)
        limits = self.town
        if money["currency"] != limits["currency"] or spent + transaction["amount"] > limits["unattended_per_day"]:
            self.differs("day_limit_exceeded", f"{transaction['name']}: {transaction['amount']} after {spent}")
        if transaction["amount"] > limits["unattended_per_transaction"]:
            self.differs("transaction_limit_exceeded", f"{transaction['name']}: {transaction['amount']}")

    def open_holds(self, new):
        most = self.town.get("open_holds_max")
        same = [
            other for other in self.transactions.values()
            if other["state"] in OPEN and (other["agent"], other["debit"]) == (new["agent"], new["debit"])
        ]  # fmt: skip
        if most is not None and len(same) > most:
            self.differs("open_holds_exceeded", f"{new['name']} is number {len(same)}")

    def stands(self, actor, name):
        if self.revoked & marks(actor):
            self.differs("paid_for_the_revoked", name)
        if self.frozen & freezes(actor):
            self.differs("paid_for_the_frozen", name)

    def known(self, name, doing):
        if name not in self.transactions:
            self.differs("transaction_unknown", f"{doing} of {name}")
        return self.transactions.get(name)

    def execute(self, body, parameters, result):
        transaction = self.known(result["transaction_id"] or parameters["transaction_id"], "execution")
        if transaction is None:
            return
        name = transaction["name"]
        if result["status"] == "queued_manual":
            self.withheld(transaction, result["case_id"])
        elif result["repeated"]:
            if transaction["state"] not in ("executed", "submitted"):
                self.differs("repeated_before_executed", name)
        else:
            if transaction["state"] != "approved" or not self.at < transaction["expires"]:
                self.differs("executed_out_of_turn", f"{name} is {transaction['state']}")
            if self.breaker:
                self.differs("paid_while_stopped", name)
            self.stands(body["actor"], name)
            self.stands(transaction["maker"], name)
            if result["status"] == "executed":
                self.settle(transaction)
            else:
                transaction["state"] = result["status"]

    def settle(self, transaction, moved=False):
        self.held(transaction, -1)
        transaction["state"] = "executed"
        parts = (transaction["debit"], transaction["credit"], transaction["amount"], transaction["fee"])
        self.post(transaction["name"], *parts, moved=moved)

    def close(self, transaction, state, doing):
        if transaction["state"] not in OPEN:
            self.differs("closed_out_of_turn", f"{doing} of {transaction['name']}, which is {transaction['state']}")
            return
        self.hold(transaction, -1)
        transaction["state"] = state

    def cancel(self, _body, _parameters, result):
        transaction = self.known(result["transaction_id"], "cancellation")
        if transaction is not None and transaction["state"] != "cancelled":
            self.close(transaction, "cancelled", "cancellation")

    def reversal(self, body, parameters, result):
        name = result["transaction_id"]
        by_agent = body["actor"]["kind"] == "agent"
        scope = self.agent_scope(body, parameters) if by_agent else ["bank", parameters["idempotency_key"]]
        if not self.key_is_new(scope, name):
            return
        original = self.known(parameters["transaction_id"], "reversal")
        if original is None:
            return
        left = original["amount"] - sum(
            other["amount"] for other in self.transactions.values()
            if other["original"] == original["name"] and other["state"] in (*OPEN, "executed")
        )  # fmt: skip
        amount = minor(parameters["amount"]) if parameters["amount"] else left
        if original["state"] != "executed" or not 0 < amount <= left:
            self.differs("reversal_out_of_rule", f"{name}: {amount} of {left} left")
        transaction = self.new(name, "reversal", body, original["credit"], original["debit"], amount)
        transaction |= {"state": "pending_approval", "original": original["name"]}
        transaction["expires"] = millis(result["expires"])
        self.transactions[name] = transaction
        self.approvals[result["approval_id"]] = name
        if by_agent:
            self.open_holds(transaction)

    # What the bank's people and jobs do

    def decide(self, _body, parameters, result):
        transaction = self.known(self.approvals.get(parameters["approval_id"]), "approval")
        if transaction is None:
            return
        if transaction["state"] != "pending_approval" or not self.at < transaction["expires"]:
            self.differs("decided_out_of_turn", f"{transaction['name']} is {transaction['state']}")
        if result["status"] == "denied":
            self.close(transaction, "denied", "denial")
            return
        if result["status"] == "counted":
            # One of several people: nothing moves yet.
            self.stands(transaction["maker"], transaction["name"])
            return
        self.stands(transaction["maker"], transaction["name"])
        transaction["state"] = "approved"
        transaction["expires"] = self.after("authorization_ttl_ms", transaction["name"])
        if transaction["kind"] == "reversal":
            row = self.book.transactions.get(transaction["name"]) or {}
            if row.get("order_statement") is None:
                self.settle(transaction)
            else:
                transaction["state"] = "submitted"
                self.held(transaction, 1)

    def open_account(self, body, parameters, result):
        if not result["changed"]:
            return
        name, currency = parameters["account"], parameters["currency"]
        if name in self.accounts:
            self.differs("account_opened_twice", name)
        limits = {
            "overdraft": minor(parameters["overdraft"]) if parameters.get("overdraft") else 0,
            "day_max": minor(parameters["day_max"]) if parameters.get("day_max") else None,
            "zone": parameters.get("zone") or "UTC",
        }
        self.account(name, currency, **limits)
        if parameters["opening"]:
            self.from_outside(body, "opening", name, parameters["opening"])

    def from_outside(self, body, kind, account, money):
        name = body["request_id"].replace("req_", "txn_")
        clearing = f"clearing:{money['currency']}"
        self.account(clearing, money["currency"], "clearing")
        self.settle(self.new(name, kind, body, clearing, account, minor(money)))

    def incoming(self, body, parameters, result):
        if self.key_is_new(["incoming", parameters["reference"]], result["transaction_id"]):
            self.from_outside(body, "incoming", parameters["account"], parameters["amount"])

    def booking(self, body, parameters, result):
        name = result["transaction_id"]
        if not self.key_is_new(["booking", parameters["reference"]], name):
            return
        amount, currency = minor(parameters["amount"]), parameters["amount"]["currency"]
        if parameters["credit"] == f"fees:{currency}":
            self.account(parameters["credit"], currency, "fees")
        transaction = self.new(name, "booking", body, parameters["debit"], parameters["credit"], amount)
        self.within_account_day(transaction)
        self.hold(transaction, 1)
        self.settle(transaction)

    def add_merchant(self, _body, parameters, result):
        if result["changed"]:
            self.account(f"merchant:{parameters['merchant']}", parameters["currency"], "merchant")

    def set_status(self, _body, parameters, result):
        if result["changed"]:
            self.accounts[parameters["account"]]["status"] = parameters["status"]

    def set_breaker(self, _body, parameters, _result):
        # What one node knows stops that node alone; it is in no table.
        if parameters["cause"] in ("operator", "anomalies"):
            (self.breaker.add if parameters["open"] else self.breaker.discard)(parameters["cause"])

    # Cases

    def case(self, name, **more):
        known = self.cases.setdefault(name, {"state": "queued", "scope": None, "transaction": None} | more)
        return known

    def withheld(self, transaction, case):
        if transaction["state"] == "queued_manual":
            return
        if transaction["state"] not in ("approved", "pending_approval"):
            self.differs("closed_out_of_turn", f"{transaction['name']} is {transaction['state']}")
        transaction["resume"], transaction["state"] = transaction["state"], "queued_manual"
        transaction["case"] = case
        self.case(case, transaction=transaction["name"])

    def queue_manual(self, _body, parameters, result):
        transaction = self.known(parameters["transaction_id"], "queueing")
        if transaction is not None and result["status"] == "queued_manual":
            self.withheld(transaction, result["case_id"])

    def take_case(self, _body, parameters, _result):
        case = self.cases.get(parameters["case_id"])
        if case is None or case["state"] != "queued":
            self.differs("decided_out_of_turn", parameters["case_id"])

    def resolve_case(self, body, parameters, result):
        case = self.cases.get(parameters["case_id"])
        if case is None or case["state"] != "queued":
            self.differs("decided_out_of_turn", parameters["case_id"])
            return
        if result["status"] == "proposed":
            case["proposed"] = (body["actor"]["name"], parameters["verdict"])
            return
        proposed = case.get("proposed")
        if proposed is not None and proposed[0] == body["actor"]["name"]:
            self.differs("decided_alone", parameters["case_id"])
        released = result["status"] == "released"
        case["state"] = result["status"]
        transaction = self.transactions.get(case["transaction"])
        if transaction is not None and transaction["state"] == "queued_manual":
            if released:
                self.resume(transaction)
            else:
                self.close(transaction, "denied", "rejection")
                if result["status"] == "paid_elsewhere":
                    self.count(transaction, 1)  # its money was spent all the same
        elif transaction is not None and transaction["state"] == "voided" and result["status"] == "paid_elsewhere":
            self.count(transaction, 1)  # while somebody paid, its agent was revoked
            transaction["state"] = "denied"

    def resume(self, transaction):
        transaction["state"] = transaction["resume"]
        if transaction["state"] == "approved":
            transaction["expires"] = self.after("authorization_ttl_ms", transaction["name"])

    def core_answered(self, _body, parameters, result):
        transaction = self.known(parameters["transaction_id"], "the core's word")
        if transaction is None or result.get("changed") is False:
            return
        done, verb = parameters["word"] == "done", parameters["verb"]
        waiting = transaction["state"] == "queued_manual"
        reasons = {row["name"]: row["reason"] for row in self.book.tables["cases"] if waiting}
        if verb == "hold" and done and waiting and reasons.get(transaction["case"]) == HOLD_NOT_CONFIRMED:
            self.cases[transaction["case"]]["state"] = "released"
            self.resume(transaction)
        elif verb == "hold" and not done and transaction["state"] in ("approved", "pending_approval", "queued_manual"):
            if waiting:
                self.cases[transaction["case"]]["state"] = "rejected"
            self.close(transaction, "core_refused", "the core's refusal")
        elif verb == "settle" and transaction["state"] == "submitted":
            if done:
                self.settle(transaction, moved=True)
            else:
                self.close(transaction, "core_refused", "the core's refusal")

    # The end of authorizations

    def sweep(self, _body, parameters, result):
        def void(transaction):
            held = transaction["state"] in ("approved", "pending_approval", "queued_manual")
            return held and bool(self.revoked & marks(transaction["maker"]))

        def late(transaction):
            return transaction["state"] in ("approved", "pending_approval") and transaction["expires"] <= self.at

        voided = [transaction for transaction in self.transactions.values() if void(transaction)]
        lapsed = [other for other in self.transactions.values() if late(other) and not void(other)]
        lapsed.sort(key=lambda transaction: transaction["expires"])
        due = (voided + lapsed)[: parameters["limit"]]
        if result["released"] != len(due):
            self.differs("sweep_differs", f"released {result['released']}, due were {len(due)}")
        for transaction in due:
            state = "approval_expired" if transaction["state"] == "pending_approval" else "expired"
            self.close(transaction, "voided" if transaction in voided else state, "sweep")

    # Revocations and freezes

    def journal_certificate(self, _body, parameters, _result):
        subject, key = parameters["subject"], parameters["key"]
        self.spread_is_over()
        place = (parameters["issuer"], parameters["serial"])
        if self.certificates.get(place) == (subject, key):
            # Said again, it answers what is there.
            return
        self.certificates[place] = (subject, key)
        stand = {f"key:{key}", f"issuer:{parameters['issuer']}"}
        if subject.startswith("spiffe://"):
            stand |= {f"agent:{subject}", "everyone"}
        if self.revoked & stand:
            self.differs("certified_the_revoked", subject)
        if subject.startswith("spiffe://") and self.frozen & {f"frozen:{subject}", "frozen:everyone"}:
            self.differs("certified_the_frozen", subject)

    def named(self, target):
        """The marks of a revocation's target."""
        if target == "everyone":
            return {"everyone"}
        ((kind, value),) = target.items()
        if kind == "agent":
            return self.marks_of_agent(value)
        if kind == "key":
            of_key = [place for place, (_, key) in self.certificates.items() if key == value]
            return {f"key:{value}"} | {f"cert:{issuer}:{serial}" for issuer, serial in of_key}
        if kind == "certificate":
            return {f"cert:{value['issuer']}:{value['serial']}"}
        if kind == "certificates":
            return {f"cert:{value['issuer']}:{serial}" for serial in value["serials"]}
        if kind == "issuer":
            of_root = {f"cert:{root}:{serial}" for root, serial in value["certificates"]}
            return {f"issuer:{value['issuer']}"} | of_root
        raise ValueError(f"a target of kind {kind}")

    def marks_of_agent(self, agent):
        own = [(place, key) for place, (subject, key) in self.certificates.items() if subject == agent]
        certificates = {f"cert:{issuer}:{serial}" for (issuer, serial), _ in own}
        return {f"agent:{agent}"} | {f"key:{key}" for _, key in own} | certificates

    def revoke(self, _body, parameters, result):
        self.spread_is_over()
        fresh = self.named(parameters["target"]) - self.revoked
        if result["already"] != (not fresh) and parameters["target"] != "everyone":
            self.differs("revocation_differs", f"{parameters['target']} was revoked already: {result['already']}")
        self.revoked |= fresh

    def spread_revocation(self, _body, parameters, result):
        """Agents get marks of their own, in order."""
        if "everyone" not in self.revoked:
            return
        after = parameters["after"] or ""
        portion = [agent for agent in self.without_marks() if agent > after][: parameters["limit"]]
        if result["agents"] != len(portion):
            self.differs("revocation_differs", f"{result['agents']} agents got marks, due were {len(portion)}")
        for agent in portion:
            self.revoked |= self.marks_of_agent(agent)

    def without_marks(self):
        agents = {subject for subject, _ in self.certificates.values() if subject.startswith("spiffe://")}
        return sorted(agent for agent in agents if f"agent:{agent}" not in self.revoked)

    def spread_is_over(self):
        """The row for everyone goes without a leaf when each agent has marks of its own: it says nothing more."""
        if not self.without_marks():
            self.revoked.discard("everyone")

    def freeze(self, _body, parameters, result):
        mark = frozen(parameters["whom"])
        if result["already"] != (mark in self.frozen):
            self.differs("freeze_differs", f"{mark} was frozen already: {result['already']}")
        self.frozen.add(mark)

    def unfreeze(self, body, parameters, result):
        """Two people lift it, not one twice."""
        mark, person = frozen(parameters["whom"]), body["actor"]["name"]
        if mark not in self.frozen:
            self.differs("freeze_differs", f"{mark} was lifted and was not frozen")
        if result["by"] == "one_of_two":
            self.thaws.setdefault(mark, person)
            return
        if self.thaws.pop(mark, person) == person:
            self.differs("freeze_lifted_by_one", f"{mark}: {person}")
        self.frozen.discard(mark)

    def import_crl(self, _body, parameters, _result):
        self.revoked.update(f"cert:{parameters['issuer']}:{serial}" for serial in parameters["serials"])

    # The end

    def compare(self):
        for name in sorted(set(self.accounts) | set(self.book.accounts)):
            mine, kept = self.accounts.get(name), self.book.accounts.get(name)
            for part in ("balance", "held", "status", "currency", "overdraft", "day_max"):
                if mine is None or kept is None or mine[part] != kept[part]:
                    found = None if kept is None else kept[part]
                    self.differs("log_and_book_differ", f"{name} {part}: {found}, the log says {mine and mine[part]}")
                    break
        for name in sorted(set(self.transactions) | set(self.book.transactions)):
            mine, kept = self.transactions.get(name), self.book.transactions.get(name)
            for part in ("state", "kind", "debit", "credit", "amount", "fee", "agent", "counts_on", "debits_on"):
                if mine is None or kept is None or mine[part] != kept[part]:
                    found = None if kept is None else kept[part]
                    self.differs("log_and_book_differ", f"{name} {part}: {found}, the log says {mine and mine[part]}")
                    break
        self.compare_keys()
        self.compare_marks()

    def compare_marks(self):
        """Nothing is revoked or frozen without a leaf, and nothing of what a leaf says is missing."""
        kept = {row["mark"] for row in self.book.tables["revocations"]}
        if "everyone" not in kept:
            self.spread_is_over()
        told = self.revoked | self.frozen
        for mark in sorted(told - kept):
            self.differs("revocation_lost", mark)
        for mark in sorted(kept - told):
            self.differs("revocation_without_leaf", mark)

    def compare_keys(self):
        kept = {row["scope"]: row["transaction_name"] for row in self.book.tables["bindings"]}
        for scope, name in self.keys.items():
            if kept.get(scope) != name:
                self.differs("key_forgotten", f"{name}: bound to {kept.get(scope)}")
        cases = {row["name"]: row["state"] for row in self.book.tables["cases"]}
        for name, case in self.cases.items():
            if name not in cases:
                self.differs("case_missing", name)
            elif cases[name] != case["state"] and "core" not in str(cases[name]):
                self.differs("log_and_book_differ", f"{name}: {cases[name]}, the log says {case['state']}")


def marks(actor):
    """Everything under which this maker can be revoked."""
    if actor["kind"] != "agent":
        return set()
    certificates = [(actor["bank_issuer"], actor["bank_serial"]), (actor["company_issuer"], actor["company_serial"])]
    named = {f"cert:{issuer}:{serial}" for issuer, serial in certificates}
    issuers = {f"issuer:{issuer}" for issuer, _ in certificates}
    return named | issuers | {f"agent:{actor['spiffe_id']}", f"key:{actor['key']}", "everyone"}


def freezes(actor):
    """Everything under which this maker can be frozen."""
    return {f"frozen:{actor['spiffe_id']}", "frozen:everyone"} if actor["kind"] == "agent" else set()


def frozen(whom):
    return "frozen:everyone" if whom == "everyone" else f"frozen:{whom['agent']}"
