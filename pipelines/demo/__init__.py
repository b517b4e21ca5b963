"""The demo: Fivetran loads (a sandbox), dbt builds (the real one), a gate checks, Hightouch pushes (a sandbox)."""
