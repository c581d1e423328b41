"""The text that `walvec init` writes; rarely needed settings are comments."""

FRAME = """\
# walvec: what is embedded, where, and by which model.
#
# Every key can be set by a variable, which wins: [embedder] timeout is WALVEC_EMBEDDER__TIMEOUT.
# Next: `walvec check` says what the databases still need, `walvec setup` creates slot, publication and
# tables, and `walvec run` keeps the vectors in step.

[source]
{dsn}
{search_path}
slot = "walvec"                      # the replication slot, created by setup
publication = "walvec"               # which tables are followed, created by setup
# plugin = "auto"
# failover = "auto"                  # slots that standbys keep a copy of: from PostgreSQL 17 on
# logical_decoding_work_mem = "256MB"  # of the stream's session on the source; absent: the server's

# [target]                           # another database for the vectors
# dsn = "postgresql://localhost/vectors"

[embedder]
{embedder}
# max_batch_inputs = 128             # texts in one request
# max_batch_tokens = 16000           # tokens in one request, estimated
# concurrency = 8                    # requests in flight
# requests_per_second = 0            # 0: no limit
# timeout = 30.0                     # seconds for one request

# [pipeline]
# writers = 4                        # sessions that write to the target at once
# batch_rows = 1000                  # rows in a batch, at most
# batch_delay = 0.005                # seconds to wait for more before a batch
# max_buffer_bytes = 67108864        # bounds the memory for changes on their way
# parked_vectors = "remove"          # or "keep": of a row that can no longer be embedded
# max_dead_letters = 1000            # stop when more rows are parked and most of the recent ones; 0: never

# [http]
# listen = "127.0.0.1:9187"          # /livez /readyz /metrics; "" turns it off
# max_lag = 0                        # seconds that a commit may wait before /readyz fails; 0: no limit

# [log]
# level = "info"                     # debug, info, warning, error
# format = "auto"                    # auto: console on a terminal, JSON otherwise

{vectorizers}"""

VECTORIZER = """\
[[vectorizer]]
name = {name}
table = {table}
text = {text}{remark}
# where = "published_time IS NOT NULL"      # only rows for which this holds
target = {target}
# chunk = {{ size = 2000, overlap = 200 }}    # characters; or chunk = "none"
# index = "hnsw"                            # or "none"
# metric = "cosine"                         # cosine, l2, ip
"""

PROVIDERS = {
    "mistral": """\
provider = "mistral"                 # mistral, openai, local, hashing, python
model = "mistral-embed"
dimensions = 1024
# base_url = "https://api.mistral.ai"
# api_key_env = "MISTRAL_API_KEY"    # the variable that holds the key""",
    "openai": """\
provider = "openai"                  # OpenAI, or any server of its /v1/embeddings: vLLM, TEI, Ollama, LiteLLM
model = "text-embedding-3-small"
dimensions = 1536
# base_url = "https://api.openai.com/v1"
# api_key_env = "OPENAI_API_KEY"     # the variable that holds the key""",
    "local": """\
provider = "local"                   # no network, no key; English. Needs: pip install 'walvec[local]'
# model = "wordllama-l2-supercat-256"
# dimensions = 256""",
    "hashing": """\
provider = "hashing"                 # no network, no key: to try walvec out; knows words, not meaning
# model = "hashing"
# dimensions = 384""",
    "python": """\
provider = "python"                  # your own function: list of texts to list of vectors
model = "my_module:embed"
dimensions = 384""",
}
