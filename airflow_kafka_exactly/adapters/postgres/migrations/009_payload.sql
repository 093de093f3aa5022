-- Records as they are stored, in arrays: one argument, so that storing them is one statement, whoever freezes meanwhile. A header
-- says by `header_of`, an offset, which record's it is.
create type payload as (
  offsets       bigint[],
  keys          bytea[],
  contents      bytea[],
  timestamps    bigint[],
  header_of     bigint[],
  header_names  bytea[],
  header_values bytea[]
);
