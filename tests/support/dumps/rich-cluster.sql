-- Roles and a database that uses every property a database has; rich-database.sql fills it.
create role shop_owner;
create role "re ader";
create role "gr'ant""er" login;
create database shop owner shop_owner template template0 encoding 'UTF8' locale_provider icu icu_locale 'de-DE'
  lc_collate 'C' lc_ctype 'C.UTF-8' connection limit 7;
revoke connect, temporary on database shop from public;
grant connect on database shop to "gr'ant""er" with grant option;
set role "gr'ant""er"; grant connect on database shop to "re ader"; reset role;
grant create on database shop to "re ader";
alter database shop set search_path to "$user", public, "odd schema %s", 'a,b';
alter database shop set work_mem to '7MB';
alter database shop set "shop.note" to E'it''s \\ = "quoted"';
alter role "re ader" in database shop set statement_timeout to '33s';
comment on database shop is E'the ''shop''\nof 🌲';
