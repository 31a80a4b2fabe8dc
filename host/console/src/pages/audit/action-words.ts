import { dictionary } from "../../i18n/words";

/** What was done, by the word that the log keeps for it. */
export const words = dictionary({
  en: {
    activate: "activate",
    cancel: "cancel",
    "give up": "give up",
    pause: "pause",
    resume: "resume",
    seek: "move positions",
    "plan redrive": "plan a redrive",
    "run redrive": "run a redrive",
    "pause redrive": "pause a redrive",
    "cancel redrive": "cancel a redrive",
    resend: "resend",
    retry: "retry",
    "sign in": "sign in",
    "sign out": "sign out",
    upload: "upload",
  },
  zh: {
    activate: "激活",
    cancel: "取消",
    "give up": "放弃",
    pause: "暂停",
    resume: "恢复",
    seek: "移动位置",
    "plan redrive": "计划重新投递",
    "run redrive": "运行重新投递",
    "pause redrive": "暂停重新投递",
    "cancel redrive": "取消重新投递",
    resend: "重新发送",
    retry: "重试",
    "sign in": "登录",
    "sign out": "退出登录",
    upload: "上传",
  },
});
