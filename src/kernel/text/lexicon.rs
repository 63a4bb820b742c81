//! Words by what they do in an attempt, in many languages. Rules are about concepts that meet, not about sentences: see
//! [`near`](super::near).
//!
//! An entry is a word, or words that follow one another with `_` between them. A star stands for any ending. Entries are
//! folded like the texts they are compared with.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::fold::folded;

/// What a word does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum Concept {
    /// Ignore, forget, bypass.
    Disregard,
    /// Instructions, rules, prompts.
    Authority,
    /// What stood before: above, previous, what you were told.
    Prior,
    /// New, real, updated.
    New,
    /// An appeal to another persona, complete in itself.
    Persona,
    /// Act, pretend, answer.
    Play,
    /// "As a", "to be", "that you are".
    As,
    /// A language model, by any name.
    Model,
    /// Assistant, agent: a model only when it is told something.
    Helper,
    /// Must, should, have to.
    Must,
    /// Attention, note to.
    Hail,
    Not,
    Tell,
    Person,
    Without,
    Leave,
    Reveal,
    Secret,
    Pay,
    Money,
    Target,
    All,
    Approve,
    Payment,
    Approved,
    By,
    Official,
    Limit,
    Lifted,
    Needless,
    Choose,
    This,
    Use,
    ToolWord,
    /// The bank's tools by name.
    OurTool,
    Boundary,
}

use Concept::{
    All, Approve, Approved, As, Authority, Boundary, By, Choose, Disregard, Hail, Helper, Leave, Lifted, Limit, Model,
    Money, Must, Needless, New, Not, Official, OurTool, Pay, Payment, Person, Persona, Play, Prior, Reveal, Secret,
    Target, Tell, This, ToolWord, Use, Without,
};

const ENTRIES: &[(Concept, &str)] = &[
    (
        Disregard,
        "ignor* disregard* forget forgets forgetting forgot overrid* overrul* bypass* circumvent* neglect* \
        supersed* nullif* void discard* abandon* overwrit* negate* countermand* rescind* revoke suspend disable \
        disobey* violat* unlearn drop skip cancel erase wipe flush purge reset defy dismiss set_aside put_aside \
        cast_aside throw_out throw_away leave_behind do_not_follow don_t_follow dont_follow stop_following \
        not_follow never_follow do_not_obey stop_obeying no_longer_follow no_longer_bound no_longer_apply \
        not_bound_by pay_no_attention pay_no_heed do_not_comply disregarding no_longer_valid are_void is_void \
        are_cancelled are_canceled are_suspended are_obsolete is_obsolete take_precedence takes_precedence \
        instead_of_following deviate* break_free replace* stop_listening turn_off deactivate switch_off shut_off \
        do_away override outrank* trump",
    ),
    // German, Dutch, Scandinavian
    (
        Disregard,
        "ignorier* missacht* missachte* vergiss vergesst vergessen umgeh* überschreib* verwirf* verwerf* \
        übergeh* beachte_nicht nicht_beachten setze_außer negeer* vergeet omzeil* overschrijf* ignorer* glem \
        glöm* ignorera* åsidosätt* bortse* unohda* sivuuta* ohita* jätä_huomiotta",
    ),
    // Romance
    (
        Disregard,
        "ignora ignorá ignore ignorez ignorer ignorando ignorad ignorar olvid* omit* descart* desatiend* \
        desestim* anul* oubli* néglig* contourn* outrepass* esquec* desconsider* desprez* dimentic* trascur* tralasci* \
        scordat* dimentica annulla ignorati ignoră ignora_ți uită uitați nesocot* oblida ignoreu ne_tiens_pas \
        ne_tenez_pas fais_abstraction no_sigas no_hagas_caso haz_caso_omiso não_siga non_seguire",
    ),
    // Slavic, Baltic, Hungarian, Turkish, Greek
    (
        Disregard,
        "игнориру* проигнориру* забуд* забыт* отмен* обойд* пренебрег* не_обраща* не_следуй ігнору* \
        проігнору* забуд* zignoruj* ignoruj* zapomnij* pomiń* pomin* zanedba* nezohled* ignorujte ignoruj zapomeň* \
        zapomeňte zanemari* ignoriraj* zaboravi* игнорирай* забрав* занемари* hagyd_figyelmen felejts* felejtsd* \
        hagyja_figyelmen görmezden yok_say* unut* dikkate_alma* göz_ardı αγνόησ* αγνοήσ* αγνόη* ξέχασ* ξεχάσ* \
        παράβλεψ* ignoruok* ignorē* pamiršk*",
    ),
    // Semitic, Persian, Indic, South-East Asian, African
    (
        Disregard,
        "تجاهل* تجاهلوا انس انسَ اهمل* أهمل* تخطى تخط التعلم_إلغاء נא_להתעלם התעלם* תתעלם* להתעלם שכח* תשכח* نادیده \
        فراموش* صرف_نظر نظرانداز अनदेखा नज़रअंदाज़ नजरअंदाज अनदेखी भूल उपेक्षा উপেক্ষা ভুলে অগ্রাহ্য புறக்கணி* விஸ்மரி \
        abaikan* lupakan* bỏ_qua phớt_lờ quên huwag_pansinin balewalain kalimutan puuza* sahau* kupuuza \
        ignori ละเว้น เพิกเฉย ไม่ต้องสนใจ อย่าสนใจ ลืม มองข้าม",
    ),
    (
        Disregard,
        "忽略 无视 無視 忽视 忽視 忘记 忘記 忘掉 不要理会 不要理會 不理会 不要遵守 不用管 抛弃 拋棄 绕过 繞過 取消 撤销 覆盖 跳过 \
        無視し 忘れ 従わない 破棄 上書き 무시* 잊어* 잊으* 무효* 따르지_마*",
    ),
    (
        Authority,
        "instruction* directive* prompt prompts guideline* guidance rule rules ruleset policy policies \
        constraint* restriction* safeguard* guardrail* programming training alignment protocol* commandment* \
        system_message system_prompt system_messages developer_message initial_message context_window \
        safety_measure* safety_filter* content_filter* filters mandate mandates orders commands \
        your_limits all_limits all_checks security_checks safety_checks ethical ethics mandates conversation",
    ),
    (
        Authority,
        "anweisung* instruktion* vorgabe* vorschrift* regel regeln richtlini* befehl* systemprompt* weisung* \
        instructie* richtlijn* aanwijzing* opdracht* voorschrift* instruks* retningslinj* regler instruktion* \
        anvisning* riktlinj* ohje ohjeet ohjeita ohjeitasi säännö* määräy*",
    ),
    (
        Authority,
        "instruccion* instrucción* regla reglas órdenes ordenes indicacion* directric* directiv* consigne* \
        instruction* règle* regle* ordre ordres directive* instruç* instruco* regra regras orden* diretriz* ordens \
        istruzion* regol* direttiv* ordini indicazion* instrucțiun* instrucţiun* instructiun* reguli regulil* \
        instruccions indicações",
    ),
    (
        Authority,
        "инструкци* указан* правил* команд* распоряж* директив* промпт* інструкці* вказівк* правил* instrukcj* \
        polece* zasad* reguł* regul* wytyczn* instrukce instrukc* pokyn* pravid* příkaz* prikaz* uputstv* uput* pravil* \
        naredb* utasítás* szabály* előír* talimat* yönerge* kural* komut* οδηγί* κανόν* εντολ* instrukcij* norādījum* \
        nurodym* taisykl*",
    ),
    (
        Authority,
        "تعليمات* التعليمات* تعليماتك الأوامر أوامر* القواعد قواعد* توجيهات* التوجيهات* إرشادات* הוראות* ההוראות* הנחיות* \
        ההנחיות* כללים הכללים دستور* دستورالعمل* قوانین قواعد ہدایات निर्देश* निर्देशों नियम* आदेश* अनुदेश* নির্দেশ* নির্দেশাবলী \
        নিয়ম* அறிவுறுத்தல்* வழிமுறை* instruksi* perintah* aturan* petunjuk* arahan* hướng_dẫn chỉ_dẫn chỉ_thị quy_tắc lệnh \
        tagubilin* utos panuto maagizo* maelekezo* kanuni* sheria คำสั่ง คำแนะนำ กฎ",
    ),
    (
        Authority,
        "指令 指示 说明 說明 规则 規則 提示词 提示詞 命令 约束 約束 限制 规定 規定 プロンプト ルール 制約 設定 지시* 명령* 규칙* 지침* 프롬프트* 안내*",
    ),
    (
        Prior,
        "previous previously prior preceding foregoing aforementioned above earlier beforehand everything_before \
        you_were_told you_have_been_told told_before you_know you_learned you_ve_learned what_i_said been_given \
        came_before up_to_now so_far until_now were_given hitherto up_to_this_point \
        vorherig* bisherig* vorangegangen* obig* vorige* oben eerdere voorgaande vorige bovenstaande tidligere \
        tidigare föregående ovanstående aiemm* edellis* yllä anterior* previ* précédent* precedent* ci_dessus antérieur* precedenti \
        precedente sopra anterioar* de_mai_sus acima предыдущ* прежн* выше* ранее попередн* вище poprzedn* powyższ* \
        wcześniej* předchoz* predchoz* dosavad* prethodn* korábbi* előző* fenti* önceki* yukarıdaki* daha_önce \
        προηγούμεν* παραπάνω السابق* السابقة سابقة أعلاه הקודמ* קודמות לעיל قبلی پیشین بالا سابقہ पिछले पिछली पूर्व उपरोक्त ऊपर \
        আগের পূর্ববর্তী முந்தைய sebelumnya terdahulu di_atas trước nakaraang naunang zilizopita awali hapo_juu \
        ก่อนหน้า ข้างต้น 之前 以前 先前 上述 上面 以上 前面 此前 上記 これまで 前の 이전* 앞선 위의 지금까지",
    ),
    (
        New,
        "new updated real actual revised true latest next current corrected modified additional override secret \
        hidden neue* nuev* nouvel* nuov* nov* нов* yeni 新 新しい 새로운 جديد* חדש* नए नया mới baru",
    ),
    (
        Persona,
        "you_are_now you_re_now youre_now from_now_on_you from_now_on_act from_now_on_answer \
        you_are_no_longer you_are_not_an you_are_an_ai you_are_a_helpful you_are_a_bank you_are_dan \
        you_will_act you_will_now you_shall_now your_new_role your_new_name your_new_task your_new_goal \
        your_new_objective your_new_job your_real_task your_real_goal your_real_purpose your_actual_task \
        your_true_purpose your_only_task your_only_goal your_main_task your_task_is your_job_is \
        your_goal_is your_mission_is your_purpose_is your_objective_is your_role_is \
        jailbreak* jailbroken dan_mode do_anything_now developer_mode_* debug_mode_on \
        developer_mode_enabled enter_developer_mode developer_mode god_mode_enabled sudo_mode \
        admin_mode root_mode maintenance_mode unrestricted_mode unfiltered_ai unrestricted_ai no_restrictions \
        without_restrictions without_any_restrictions without_limitations without_filters no_limitations \
        stay_in_character in_character_as opposite_mode evil_mode evil_twin assume_the_role assume_the_persona \
        take_on_the_role take_the_role play_the_role adopt_the_persona adopt_the_role switch_roles \
        let_s_play_a_game hypothetical_response hypothetically_you grandmother_used_to \
        grandma_used_to simulation_where imagine_you_are pretend_you_are suppose_you_are you_have_been_freed \
        you_have_been_upgraded you_are_free you_are_in you_are_running you_have_been_reprogrammed override_mode \
        you_now_have you_are_authorized you_are_allowed you_are_required you_are_instructed you_must_obey \
        you_must_comply you_must_follow from_this_point_on_you new_persona two_responses confirm_you_understand",
    ),
    (
        Persona,
        "du_bist_jetzt sie_sind_jetzt ab_jetzt_bist du_bist_nun ab_sofort_bist tu_es_maintenant vous_êtes_maintenant \
        désormais_tu à_partir_de_maintenant_tu tu_es_désormais ahora_eres eres_ahora a_partir_de_ahora_eres \
        a_partir_de_ahora_actúa você_agora_é agora_você_é você_é_agora a_partir_de_agora_você adesso_sei ora_sei sei_ora \
        d_ora_in_poi_sei je_bent_nu du_är_nu du_er_nå du_er_nu olet_nyt ты_теперь теперь_ты отныне_ты вы_теперь \
        ти_тепер тепер_ти jesteś_teraz teraz_jesteś od_teraz_jesteś nyní_jsi teď_jsi mostantól_te sen_artık artık_sen \
        şimdi_sen είσαι_τώρα τώρα_είσαι أنت_الآن انت_الان أصبحت_الآن אתה_עכשיו מעכשיו_אתה تو_اکنون شما_اکنون अब_आप अब_तुम \
        আপনি_এখন kamu_sekarang anda_sekarang sekarang_kamu bạn_bây_giờ bây_giờ_bạn ikaw_ay_ngayon wewe_sasa sasa_wewe \
        คุณคือ ตอนนี้คุณ 你现在是 你現在是 现在你是 你將扮演 你将扮演 请扮演 請扮演 假装你是 假裝你是 扮演 从现在起你 从现在开始 從現在開始 \
        あなたは今 あなたは今から 今からあなた になりきって のふりをし として振る舞 役を演じ 너는_이제 당신은_이제 이제_너는 이제_당신은 지금부터_너는 지금부터_당신은",
    ),
    (
        Play,
        "act pretend imagine suppose behave respond answer reply speak roleplay simulate masquerade impersonate \
        operate function agis comporte actúa actua finge compórtate aja finja fingi agisci comportati tu_dich verhalte \
        handle antworte spiele stell_dir веди притвор* действуй zachowuj udawaj davran gibi_davran",
    ),
    (
        As,
        "as_a as_an as_if as_the as_though as_dan as_my as_root as_admin as_administrator to_be_a to_be_an to_be_the that_you_are you_are \
        comme_un comme_une comme_si como_un como_una como_si como_um como_uma come_un come_una come_se als_ein \
        als_wärst als_wenn что_ты как_будто jako jak sanki",
    ),
    (
        Model,
        "ai ais llm llms gpt chatgpt claude gemini copilot chatbot* mistral llama language_model language_models \
        large_language ai_agent ai_agents ai_assistant ai_assistants ai_model ai_models ai_system ai_systems \
        purchasing_agent shopping_agent autonomous_agent banking_agent virtual_assistant automated_agent \
        artificial_intelligence this_model the_model any_model ki sprachmodell* ia modèle_de_langage modelo_de_lenguaje \
        modelo_de_linguagem modello_linguistico нейросет* ии 人工智能 语言模型 語言模型 言語モデル 인공지능 언어_모델 الذكاء_الاصطناعي",
    ),
    (
        Helper,
        "assistant assistants agent agents bot bots the_assistant this_agent the_agent your_assistant assistent* asistente* assistente* ассистент* 助手 助理 アシスタント",
    ),
    (
        Must,
        "must should shall need_to needs_to have_to has_to please required obliged immediately always \
        instructed supposed will_now is_to are_to do_not don_t dont can_not reading_this reads_this read_this processing_this processes_this \
        is_reading are_reading parsing parse_this summariz* process_this see_this seeing_this ought \
        muss müssen soll sollen doit devez debe debes deve devi должен должна müssen musisz 必须 必須 应该 請 请 kérlek",
    ),
    (
        Hail,
        "attention notice note_to message_to message_for dear instructions_for instruction_for if_you_are \
        if_you_re for_the_attention memo_to to_any to_all to_the important_for hey listen achtung an_alle \
        atención attenzione внимание note_for hint_for",
    ),
    (
        Not,
        "do_not don_t dont never not no stop avoid refrain without nicht nie ne no não non не nie ikke inte 不要 不得 别 勿 しないで 말고 لا אל मत",
    ),
    (
        Tell,
        "tell telling mention mentioning inform informing notify notifying alert alerting reveal reveals show \
        disclose disclosing warn warning report reporting say ask asking consult let discuss share sagen \
        informier* erwähn* melden digas informes mencion* dire informe informez mentionne* diga dirlo говори* сообща* \
        упомина* mów powiedz 告诉 告訴 通知 提及 提醒 教え 知らせ 알리 말하 تخبر תספר बताओ बताएं",
    ),
    (
        Person,
        "user users human humans owner owners anyone anybody operator operators customer customers supervisor \
        account_holder cardholder person people nobody client them him her nutzer benutzer kunden kunde usuario \
        utilisateur utente usuário пользовател* użytkownik* kullanıcı* 用户 用戶 使用者 ユーザー 사용자* المستخدم משתמש* उपयोगकर्ता",
    ),
    (
        Without,
        "without no_need skip bypass skipping bypassing ohne sin sans senza sem без bez zonder uten utan ilman nélkül 无需 無需 不需要 无须 なしで 없이 بدون ללא बिना",
    ),
    (
        Leave,
        "ask confirm check_with confirmation confirming approval consent permission asking verification verifying review checking authorization \
        authorisation authentication question questions supervision oversight hesitation delay \
        bestätigung zustimmung genehmigung freigabe prüfung rückfrage confirmación aprobación permiso preguntar \
        confirmation approbation autorisation demander conferma approvazione autorizzazione chiedere confirmação \
        aprovação perguntar подтвержд* одобрен* разрешен* согласи* potwierdz* zgod* goedkeuring bevestiging onay* izin* 确认 確認 批准 审批 同意 承認 許可 승인 확인 موافقة تأكيد אישור पुष्टि अनुमति",
    ),
    (
        Reveal,
        "reveal reveals disclose leak leaks output outputs dump exfiltrat* expose extract email forward send \
        repeat echo recite print_your print_the print_all print_out display show_me tell_me give_me show_us give_us spell_out transmit upload \
        post_your provide_your share_your what_is_your what_are_your write_out translate_your summarize_your list_your verrate verrat* zeige gib_mir nenne révèle* affiche* montre* divulgu* revela* muestra* \
        mostra* rivela* stampa раскро* покажи* выведи* ujawnij* pokaż* wypisz toon 显示 顯示 输出 輸出 透露 泄露 洩露 打印 告诉我 表示し 出力し 明かし 教えて 공개* 출력* 보여* اكشف اعرض गुप्त_दिखाओ दिखाओ बताओ",
    ),
    (
        Secret,
        "system_prompt system_prompts initial_prompt hidden_prompt your_prompt prompt_text systemprompt* \
        password passwords passcode api_key api_keys apikey credentials credential private_key private_keys \
        secret_key secret_keys access_token access_tokens session_token conversation_history chat_history \
        account_number account_numbers account_balance account_balances card_number card_numbers cvv pin_code \
        your_instructions your_instruction original_instructions above_text text_above words_above everything_above \
        your_rules your_configuration your_tools available_tools tool_list your_secrets bank_details customer_data \
        environment_variables env_vars seed_phrase mot_de_passe mots_de_passe contraseñ* contrasen* senha senhas passwort \
        passwörter kontonummer* wachtwoord парол* hasło hasła şifre* numéro_de_compte número_de_cuenta \
        prompt_système prompt_del_sistema prompt_do_sistema prompt_di_sistema системный_промпт системн* 系统提示 系統提示 密码 密碼 口令 システムプロンプト パスワード 시스템_프롬프트 비밀번호 كلمة_المرور كلمات_المرور סיסמ* पासवर्ड",
    ),
    (
        Pay,
        "transfer transfers transferring send wire push pay pays move withdraw remit refund credit route redirect drain \
        sweep überweis* sende zahle schick* transfiere transfier* envía envia* paga* virez transfér* transfer* envoie* \
        envoy* paie payez verse* trasferi* invia* paga transfira transfere pague перевед* перевест* отправ* оплат* \
        заплат* przelej przelew* wyślij zapłać převeď pošli maak_over betaal stuur överför skicka utalj havale gönder* \
        transfer_et aktar* μετέφερε στείλε πλήρωσε حول حوّل ارسل أرسل ادفع העבר שלח שלם انتقال بفرست भेजो भेजें स्थानांतरित \
        transfer_kan transfer_ke kirim* chuyển gửi ipadala tuma โอน 转账 轉帳 转帐 轉賬 汇款 匯款 支付 打款 转移 送金 振り込 支払 송금* 이체* 보내*",
    ),
    (
        Money,
        "funds money balance savings cash usd eur gbp dollars dollar euros amount sum everything deposit_amount \
        guthaben geld betrag saldo fondos dinero argent solde fonds denaro soldi fundos dinheiro деньг* средств* \
        баланс* pieniądz* środki saldo peníze bakiye* para paray* χρήματα المال الأموال الرصيد כסף הכסף יתרה پول पैसा पैसे राशि uang dana \
        saldo tiền pera pesa เงิน 钱 錢 余额 餘額 资金 資金 款项 全額 残高 お金 잔액* 돈 금액*",
    ),
    (
        Target,
        "account accounts iban wallet acct attacker bitcoin btc address recipient konto account_id kontonummer cuenta compte \
        conto conta счет счёт рахунок kont* účet számla hesab* λογαριασμ* حساب الحساب חשבון خاتہ खाता खाते rekening tài_khoản \
        akaunti บัญชี 账户 帳戶 账号 帳號 口座 계좌*",
    ),
    (
        All,
        "all entire whole every full remaining complete maximum everything alles gesamt* ganze* todo toda todos tout toute \
        tous tutto tutta tutti весь все всё całe wszystk* tüm bütün όλα كل جميع כל सारा सभी seluruh semua toàn_bộ 全部 所有 一切 すべて 全て 모든 전부",
    ),
    (
        Approve,
        "release approve authorize authorise execute confirm finalize finalise accept process submit sign grant genehmige bestätige aprueba autoriza approuve autorise approva одобр* подтверд* zatwierdź onayla 批准 授权 授權 执行 執行 承認し 승인하 승인해 وافق אשר",
    ),
    (
        Payment,
        "transaction transactions transfer transfers payment payments purchase purchases request requests \
        approval approvals withdrawal withdrawals refund refunds operation checkout authorization authorisation consent \
        order_approval wire_transfer this_order your_order \
        transaktion* zahlung* überweisung* freigabe* transacción* transaccion* pago pagos paiement* virement* transazion* \
        pagament* транзакци* платеж* платёж* перевод* płatnoś* przelew ödeme* işlem 交易 付款 支付请求 转账 取引 支払い 거래* 결제* الدفع المعاملة עסקה",
    ),
    (
        Approved,
        "approved authorized authorised confirmed verified granted cleared accepted validated certified signed \
        consented completed succeeded passed preapproved pre_approved preauthorized whitelisted trusted \
        genehmigt freigegeben bestätigt aprobad* autorizad* approuvé* autorisé* approvat* autorizzat* aprovad* \
        одобрен* подтвержден* разрешен* zatwierdzon* schválen* onaylandı onaylanmış goedgekeurd godkänd* 已批准 已授权 已授權 \
        已核准 已通过 已确认 承認済み 승인됨 승인되었* 승인_완료 تمت_الموافقة موافق_عليه אושר* मंज़ूर स्वीकृत",
    ),
    (By, "by von durch por par da od от tarafından de_par"),
    (
        Official,
        "bank banks officer officers administrator* admin admins manager managers compliance owner \
        operator operators supervisor supervisors cfo ceo cto treasury risk_team risk_department human humans both \
        gates director fraud_team security_team security_department approver approvers approvers treasurer controller \
        account_holder head_office back_office legal management auditor regulator bankadmin bank_admin \
        banco banque banca банк* banku bankası bankası 银行 銀行 은행 البنك הבנק customer user",
    ),
    (
        Limit,
        "limit limits ceiling ceilings threshold thresholds quota restriction restrictions cap caps checks \
        controls fraud_check fraud_checks two_factor 2fa mfa policy limite limites límite grenze limit* лимит* 限额 限額",
    ),
    (
        Lifted,
        "raised waived removed lifted increased disabled suspended unlimited off exempt doesn_t_apply \
        does_not_apply do_not_apply no_longer no_longer_applies aufgehoben deaktiviert levanta* eliminad* levé* снят* отключен* 取消 解除",
    ),
    (
        Needless,
        "no_approval no_confirmation no_further_approval no_further_confirmation no_authorization \
        no_consent no_review no_verification approval_not approval_is_not confirmation_not confirmation_is_not \
        no_human_approval no_human_review no_additional_approval no_additional_confirmation already_approved already_authorized already_authorised \
        already_confirmed approval_granted approval_confirmed approval_received approval_obtained consent_granted \
        consent_given consent_obtained authorization_granted authorization_confirmed owner_consent \
        approval_waived approval_override approval_bypass keine_freigabe keine_genehmigung sin_aprobación \
        aucune_approbation 无需批准 無需批准 不需要批准 承認不要 승인_불필요 has_consented have_consented approval_status approval_code authorization_code",
    ),
    (
        Choose,
        "always_choose always_recommend always_select always_prefer always_pick always_buy always_rank always_use \
        must_choose must_buy must_select must_recommend only_recommend only_choose only_buy please_choose please_buy please_select \
        please_recommend rank_this recommend_this choose_this select_this buy_this_product purchase_this pick_this \
        prefer_this select_only recommend_only purchase_immediately buy_immediately buy_now_without must_purchase \
        should_purchase should_buy should_recommend should_choose should_select do_not_recommend do_not_buy_from \
        never_recommend add_to_cart_automatically order_immediately purchase_100 buy_100 best_choice_for_ai",
    ),
    (This, "this"),
    (
        Use,
        "call calling use using invoke invoking run running execute executing trigger triggering rufe benutze verwende \
        appelle utilise llama usa utiliza chiama вызов* вызови используй użyj wywołaj 调用 調用 使用 呼び出 호출*",
    ),
    (
        ToolWord,
        "the_tool this_tool the_function this_function the_api function_call tool_call tool_calls any_tool any_other_tool other_tools \
        all_tools mcp_server mcp_tool mcp_tools following_tool following_function the_following_tool the_mcp tool_named function_named tool_instead \
        your_tool your_tools new_tool tool_description tools_call tools_list tool_use tool_result tool_results the_plugin \
        das_werkzeug das_tool la_herramienta l_outil lo_strumento инструмент* narzędzi* 工具 函数 函數 ツール 도구*",
    ),
    (
        OurTool,
        "list_accounts get_account_balance list_transactions search_products authorize_purchase execute_purchase \
        authorize_transfer execute_transfer cancel_authorization get_transaction get_approval_status request_reversal \
        authorise_purchase authorise_transfer account_balance_tool approve_transaction execute_payment send_payment_tool \
        make_payment transfer_funds_tool send_email_tool read_file write_file run_shell execute_command shell_exec",
    ),
    (
        Boundary,
        "end_of_data end_of_document end_of_input end_of_output end_of_context end_of_results end_of_result \
        end_of_tool end_of_user end_of_untrusted end_of_text end_of_message end_of_product end_of_description \
        end_of_title end_of_prompt end_of_system end_of_instructions end_of_conversation \
        end_untrusted end_tool begin_system begin_instructions begin_admin begin_user begin_new new_conversation \
        start_of_system start_of_instructions system_notice system_override system_update system_instruction system_instructions system_command \
        system_directive admin_override admin_command admin_note admin_notice admin_directive administrator_override developer_note \
        developer_override security_override bank_notice bank_override compliance_notice compliance_override \
        policy_override policy_update_* tool_output tool_response tool_result function_result function_output \
        endoftext im_start im_end eot_id start_header_id official_notice_from message_from_the_bank \
        message_from_the_system message_from_the_developer message_from_anthropic message_from_openai openai_policy anthropic_policy \
        system_admin_* system_alert system_message system_warning security_bulletin emergency_protocol emergency_override \
        systemnachricht systemhinweis mensaje_del_sistema message_système messaggio_di_sistema mensagem_do_sistema \
        системное_сообщение komunikat_systemowy sistem_mesajı رسالة_النظام הודעת_מערכת सिस्टम_संदेश 系统消息 系統訊息 系统通知 系统指令 システムメッセージ システム通知 시스템_메시지",
    ),
    // Written whole, for words that are misspelt on purpose (see `near`).
    (Disregard, "ignores ignored ignoring disregarded forgetting overriding bypassing"),
    (Authority, "instruktions"),
    (
        Authority,
        "your_configuration safety_rules safety_guidelines your_guidelines your_programming the_rules all_rules all_policies",
    ),
    (
        Disregard,
        "no_more_rules none_of_your none_of_the cancelled canceled deleted ended lapsed expired annulled do_not_heed \
        not_obey not_apply ne_suis_pas ne_suivez_pas n_obéis_pas no_obedezcas no_siga no_sigan não_sigam não_obedeça \
        non_rispettare non_obbedire nicht_folgen folge_nicht folgt_nicht außer_kraft volg_niet niet_volgen följ_inte \
        følg_ikke не_следуйте не_соблюдай* не_слушай* не_подчиняй* не_виконуй* nie_przestrzegaj* nie_stosuj* \
        neposlouchej* nedodržuj* uyma uymayın uymayınız لا_تتبع لا_تلتزم אל_תציית אל_תעקוב đừng_tuân không_tuân \
        jangan_ikuti jangan_patuhi मत_मानो پیروی_نکن usifuate",
    ),
    (Persona, "behave_like_a respond_as_if answer_as_if act_like_a speak_as_if"),
    (Hail, "hinweis_an nota_para note_pour"),
    (Model, "any_ai all_ais ai_reading ai_reader"),
    (Must, "proceed proceeds continue ensure"),
    (Secret, "hidden_instructions secret_instructions internal_instructions system_instructions"),
    (Target, "offshore"),
    (Person, "bank_staff fraud_department"),
    (Tell, "hide conceal"),
    (
        Needless,
        "two_approvals dual_approval quorum_reached quorum_met both_gates gate_passed gates_passed have_signed_off has_signed_off signed_off_by",
    ),
    (Official, "alice bob"),
    (Boundary, "ignore_above"),
    (Choose, "cheapest_option_is_this highest_rated_by_ai"),
    (ToolWord, "replaces_the_tool overrides_the_tool before_using_any before_using_this_tool before_calling"),
    (Pay, "forward"),
    (Reveal, "exfil"),
    (All, "100_percent"),
];

/// One entry behind its first word.
#[derive(Debug)]
pub(super) struct Entry {
    pub concept: Concept,
    /// The words after the first, each with whether it is whole.
    pub rest: Vec<(String, bool)>,
}

/// First words, whole and open at their end.
#[derive(Debug, Default)]
pub(super) struct Lexicon {
    pub whole: HashMap<String, Vec<Entry>>,
    pub open: HashMap<String, Vec<Entry>>,
    /// Longest open first word, in characters.
    pub open_chars_max: usize,
    /// First words of scripts that put no spaces, by their beginning.
    pub unspaced_chars_max: usize,
}

pub(super) static LEXICON: LazyLock<Lexicon> = LazyLock::new(|| {
    let mut lexicon = Lexicon::default();
    for (concept, words) in ENTRIES.iter().copied() {
        for entry in words.split_whitespace() {
            let mut words = entry.split('_').filter(|word| !word.is_empty()).map(|word| {
                let whole = !word.ends_with('*');
                (folded(word.trim_end_matches('*')), whole)
            });
            let Some((first, whole)) = words.next() else {
                continue;
            };
            let rest = words.collect();
            let chars = first.chars().count();
            if first.chars().any(is_unspaced) {
                lexicon.unspaced_chars_max = lexicon.unspaced_chars_max.max(chars);
            }
            let map = if whole { &mut lexicon.whole } else { &mut lexicon.open };
            map.entry(first).or_default().push(Entry { concept, rest });
            if !whole {
                lexicon.open_chars_max = lexicon.open_chars_max.max(chars);
            }
        }
    }
    lexicon
});

/// Words that are recognised misspelt: letters turned round, one wrong, or without vowels.
pub(super) const KEY_WORDS: [(&str, Concept); 40] = [
    ("ignore", Disregard),
    ("disregard", Disregard),
    ("forget", Disregard),
    ("override", Disregard),
    ("bypass", Disregard),
    ("previous", Prior),
    ("preceding", Prior),
    ("earlier", Prior),
    ("instruction", Authority),
    ("instructions", Authority),
    ("directives", Authority),
    ("guidelines", Authority),
    ("prompt", Authority),
    ("prompts", Authority),
    ("policies", Authority),
    ("restrictions", Authority),
    ("safeguards", Authority),
    ("reveal", Reveal),
    ("disclose", Reveal),
    ("password", Secret),
    ("passwords", Secret),
    ("credentials", Secret),
    ("transfer", Pay),
    ("withdraw", Pay),
    ("account", Target),
    ("balance", Money),
    ("approve", Approve),
    ("authorize", Approve),
    ("execute", Approve),
    ("transaction", Payment),
    ("transactions", Payment),
    ("payment", Payment),
    ("payments", Payment),
    ("purchase", Payment),
    ("approved", Approved),
    ("authorized", Approved),
    ("administrator", Official),
    ("compliance", Official),
    ("confirmation", Leave),
    ("approval", Leave),
];

/// Scripts whose words stand without spaces.
pub(super) fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{2fdf}'
        | '\u{3005}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}
