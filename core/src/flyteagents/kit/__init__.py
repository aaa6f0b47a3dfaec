"""What agents for vendors share: parts that a plugin would otherwise copy from another plugin.

| module | has |
|---|---|
| `kit.tokens` | access tokens: kept, shared, renewed ahead of their end |
| `kit.shared` | work that many calls wait for, done once |
| `kit.oauth` | a token from an OAuth token endpoint |
| `kit.credentials` | credentials of their own for some projects and domains |
| `kit.settings` | types of settings |
| `kit.configs` | the base of models of a task's config |
| `kit.config_keys` | sentences about keys of a task's config that do nothing |
| `kit.tags` | Flyte's ids as tags or labels, within a vendor's limits |
| `kit.answers` | the base of models of what a vendor answers, its times, an error reply's JSON |
| `kit.limits` | the limit of time for a job |
| `kit.values` | values as JSON text |
| `kit.texts` | parts of texts, with no part of a secret |
| `kit.pages` | a list of lines as the pages of a log |
| `kit.outputs` | which declared output is a query's table; the variant of a union that fits |

Written with the author's API and nothing else. What only one vendor needs stays in its plugin.
"""
