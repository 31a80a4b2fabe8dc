const has = (name) => (value) => value !== null && Object.hasOwn(value, name);

exports.isAsked = has("do");
