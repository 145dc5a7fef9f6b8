/* rtt NS_A IP_A NS_B IP_B ONE_WAY_MS
 *
 * Joins two existing network namespaces by a pair of TUN devices and delivers every IP packet ONE_WAY_MS later: a true
 * round-trip time, handshakes included, also where the kernel has no netem. Prints "up" when both ends are there; SIGTERM
 * ends it. Needs root.   cc -O2 -o rtt rtt.c
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define PACKETS 16384 /* that may be on their way in one direction; more wait in the device's own queue */
#define MTU 1600
#define BURST 256 /* read in one go before the other direction has its turn */

struct queue {
    long due[PACKETS];
    int length[PACKETS];
    char packet[PACKETS][MTU];
    unsigned head, tail;
};

static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static int end_in(const char *namespace, const char *address)
{
    char text[256];
    snprintf(text, sizeof text, "/var/run/netns/%s", namespace);
    int space = open(text, O_RDONLY);
    if (space < 0 || setns(space, CLONE_NEWNET)) {
        perror(text);
        exit(1);
    }
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    struct ifreq request = {0};
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    strcpy(request.ifr_name, "rtt0");
    if (device < 0 || ioctl(device, TUNSETIFF, &request)) {
        perror("tun");
        exit(1);
    }
    snprintf(text, sizeof text, "ip link set lo up; ip addr add %s/24 dev rtt0; ip link set rtt0 txqueuelen 10000 up", address);
    if (system(text))
        exit(1);
    return device;
}

/* Write what is due to the other end; when the next packet is due, or -1. */
static long deliver(struct queue *queue, int other, long time)
{
    while (queue->head != queue->tail && queue->due[queue->tail % PACKETS] <= time) {
        unsigned slot = queue->tail++ % PACKETS;
        if (write(other, queue->packet[slot], queue->length[slot]) < 0)
            continue; /* the other end's queue is full: lost, as on a real line */
    }
    return queue->head == queue->tail ? -1 : queue->due[queue->tail % PACKETS];
}

static void take(struct queue *queue, int device, long delay)
{
    for (int count = 0; count < BURST && queue->head - queue->tail < PACKETS; count++) {
        unsigned slot = queue->head % PACKETS;
        int length = read(device, queue->packet[slot], MTU);
        if (length <= 0)
            return;
        queue->length[slot] = length;
        queue->due[slot] = now() + delay;
        queue->head++;
    }
}

int main(int count, char **words)
{
    if (count < 6)
        return 2;
    int device[2] = {end_in(words[1], words[2]), end_in(words[3], words[4])};
    long delay = atof(words[5]) * 1e6;
    struct queue *queue[2] = {calloc(1, sizeof *queue[0]), calloc(1, sizeof *queue[1])};
    puts("up");
    fflush(stdout);
    for (;;) {
        long next = -1;
        for (int side = 0; side < 2; side++) {
            long due = deliver(queue[side], device[!side], now());
            if (due >= 0 && (next < 0 || due < next))
                next = due;
        }
        long wait = next < 0 ? 1000000000L : next - now();
        if (wait < 0)
            wait = 0;
        struct timespec time = {wait / 1000000000L, wait % 1000000000L};
        struct pollfd polled[2] = {{device[0], POLLIN, 0}, {device[1], POLLIN, 0}};
        ppoll(polled, 2, &time, NULL);
        for (int side = 0; side < 2; side++)
            if (polled[side].revents & POLLIN)
                take(queue[side], device[side], delay);
    }
}
