// Promises with a queue of the SDK's own. The runtime is entered by a
// synchronous call and never runs the jobs of its own promises, so the builder
// turns `async` functions into generators over these, and the SDK runs the jobs.

const jobs = [];
let next = 0;

/** Runs what is ready, and what becomes ready by that. */
export function runJobs() {
  while (next < jobs.length) {
    const job = jobs[next];
    next += 1;
    job();
  }
  jobs.length = 0;
  next = 0;
}

/** Forgets jobs that an attempt left behind when it was given up. */
export function dropJobs() {
  jobs.length = 0;
  next = 0;
}

export function queueMicrotask(callback) {
  if (typeof callback !== "function") throw new TypeError("queueMicrotask wants a function");
  jobs.push(callback);
}

const isObject = (value) => (typeof value === "object" && value !== null) || typeof value === "function";

class SdkPromise {
  #state = "pending";
  #value;
  #reactions = [];

  constructor(executor) {
    if (typeof executor !== "function") throw new TypeError("Promise wants a function");
    const { resolve, reject } = this.#functions();
    try {
      executor(resolve, reject);
    } catch (error) {
      reject(error);
    }
  }

  #functions() {
    let called = false;
    const once = (act) => (value) => {
      if (called) return;
      called = true;
      act(value);
    };
    return { resolve: once((value) => this.#resolve(value)), reject: once((reason) => this.#settle("rejected", reason)) };
  }

  #resolve(value) {
    if (value === this) return this.#settle("rejected", new TypeError("a promise cannot wait for itself"));
    if (!isObject(value)) return this.#settle("fulfilled", value);
    let then;
    try {
      then = value.then;
    } catch (error) {
      return this.#settle("rejected", error);
    }
    if (typeof then !== "function") return this.#settle("fulfilled", value);
    jobs.push(() => {
      const { resolve, reject } = this.#functions();
      try {
        then.call(value, resolve, reject);
      } catch (error) {
        reject(error);
      }
    });
  }

  #settle(state, value) {
    this.#state = state;
    this.#value = value;
    for (const reaction of this.#reactions) jobs.push(reaction);
    this.#reactions = [];
  }

  then(onFulfilled, onRejected) {
    const Kind = this.constructor?.[Symbol.species] ?? SdkPromise;
    return new Kind((resolve, reject) => {
      const react = () => {
        const handle = this.#state === "fulfilled" ? onFulfilled : onRejected;
        if (typeof handle !== "function") return this.#state === "fulfilled" ? resolve(this.#value) : reject(this.#value);
        try {
          resolve(handle(this.#value));
        } catch (error) {
          reject(error);
        }
      };
      if (this.#state === "pending") this.#reactions.push(react);
      else jobs.push(react);
    });
  }

  catch(onRejected) {
    return this.then(undefined, onRejected);
  }

  finally(onFinally) {
    if (typeof onFinally !== "function") return this.then(onFinally, onFinally);
    const Kind = this.constructor;
    return this.then(
      (value) => Kind.resolve(onFinally()).then(() => value),
      (reason) => Kind.resolve(onFinally()).then(() => { throw reason; }),
    );
  }

  get [Symbol.toStringTag]() {
    return "Promise";
  }

  static get [Symbol.species]() {
    return this;
  }

  static resolve(value) {
    if (value instanceof SdkPromise && value.constructor === this) return value;
    return new this((resolve) => resolve(value));
  }

  static reject(reason) {
    return new this((_, reject) => reject(reason));
  }

  static withResolvers() {
    const made = {};
    made.promise = new this((resolve, reject) => Object.assign(made, { resolve, reject }));
    return made;
  }

  static try(callback, ...values) {
    return new this((resolve) => resolve(callback(...values)));
  }

  static race(promises) {
    return new this((resolve, reject) => {
      for (const promise of promises) this.resolve(promise).then(resolve, reject);
    });
  }

  static all(promises) {
    return this.#gather(promises, (promise, { keep, reject }) => promise.then(keep, reject));
  }

  static allSettled(promises) {
    return this.#gather(promises, (promise, { keep }) =>
      promise.then(
        (value) => keep({ status: "fulfilled", value }),
        (reason) => keep({ status: "rejected", reason }),
      ));
  }

  static any(promises) {
    const reasons = this.#gather(promises, (promise, { keep, reject }) => promise.then(reject, keep));
    // What is gathered are the reasons; the first value ends it early.
    return reasons.then((all) => { throw new AggregateError(all, "every promise was rejected"); }, (value) => value);
  }

  static #gather(promises, watch) {
    return new this((resolve, reject) => {
      const kept = [];
      let left = 1;
      const finish = () => (left -= 1) === 0 && resolve(kept);
      let index = 0;
      for (const promise of promises) {
        const at = index;
        index += 1;
        left += 1;
        const keep = (value) => {
          kept[at] = value;
          finish();
        };
        watch(this.resolve(promise), { keep, reject });
      }
      finish();
    });
  }
}
Object.defineProperty(SdkPromise, "name", { value: "Promise" });

export { SdkPromise as Promise };
