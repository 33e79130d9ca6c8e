-- What lies on disk, and where do dead rows pile up?
select table_name, partitions, pg_size_pretty(bytes) as size, pg_size_pretty(index_bytes) as of_that_indexes, rows_estimated, dead_rows, vacuumed_at
from longhaul.sizes
order by bytes desc
limit 20;
