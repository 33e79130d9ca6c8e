-- Who has to answer what, and for how long has it waited?
select run_id, flow, step, question, choices, may_answer, longhaul.present() - since as waited, expires_at, at_expiry
from longhaul.questions
order by since;
