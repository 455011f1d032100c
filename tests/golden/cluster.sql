-- Roles of the cluster that the golden repository is made from.
CREATE ROLE golden_owner LOGIN PASSWORD 'SCRAM-SHA-256$4096:Z29sZGVuZ29sZGVuZ29sZA==$AbzbG14MW9TTASOoSWLESUmWRVXqFvkMO34pSXhOvIA=:NX0qYWELkaiwMmN4dfDfqpxDLjXxP9wlmdfa/qx5zjk=';
CREATE ROLE "golden reader";
GRANT golden_owner TO "golden reader";
COMMENT ON ROLE golden_owner IS 'owns what is restored';
