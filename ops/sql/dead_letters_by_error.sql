-- What fails for good, how often, and with which message?
select flow, step, left(longhaul.error_in_words(error), 120) as message, count(*) as times, min(died_at) as first_at, max(died_at) as last_at
from longhaul.dead_letters
group by flow, step, message
order by times desc
limit 50;
